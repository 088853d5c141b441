"""`hsae.extract`: images to activations, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from hsae.api.arrays.device import chosen_device
from hsae.api.arrays.images import ImageLike, image_activations
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.spec import BackboneSpec, Tokens, check_layers, check_tokens
from hsae.errors import UserError
from hsae.pipeline.planning.layer_list import parse_layers

_TOKENS: tuple[Tokens, ...] = ("cls", "registers", "patches", "mean")


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """Activations of images: of a layer, `extracted[layer]`.

    Attributes:
        spec: identity and shape of the backbone.
        tokens: `cls`, `registers`, `patches` or `mean`.
        activations: by layer float32[n_images, d_model]; for patches and registers
            float32[n_images, n_tokens, d_model].
    """

    spec: BackboneSpec
    tokens: Tokens
    activations: dict[int, Float32[np.ndarray, "n_images *token d_model"]]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, from the first."""
        return tuple(self.activations)

    def __getitem__(self, layer: int) -> Float32[np.ndarray, "n_images *token d_model"]:
        """The activations of a layer.

        Raises:
            UserError: it was not extracted.
        """
        if layer not in self.activations:
            there = ", ".join(map(str, self.layers))
            raise UserError(f"layer {layer} was not extracted, only {there}: give it to hsae.extract")
        return self.activations[layer]

    def __repr__(self) -> str:
        n_images = len(next(iter(self.activations.values())))
        return f"<Extracted: {self.tokens} of {n_images} images, {self.spec.name}, layers {list(self.layers)}>"


def extract(
    images: Sequence[ImageLike],
    *,
    model: str | Path,
    layers: Sequence[int] | int | str = "all",
    tokens: Tokens = "cls",
    revision: str | None = None,
    device: str = "auto",
    batch_size: int = 32,
) -> Extracted:
    """Compute a vision model's residual stream for images, without any server.

    The images are read, checked and preprocessed as by the pipeline. All activations are kept in memory.

    Args:
        images: paths, Pillow images, or uint8[height, width, 3].
        model: hub id or folder.
        layers: numbers of blocks from 0, a list such as "0-3,8", or "all".
        tokens: class token ("cls"), register tokens ("registers"), every patch token ("patches"), or the mean of the
            patch tokens ("mean").
        revision: branch, tag or commit of a hub model.
        device: "auto", "cpu" or "cuda".
        batch_size: images per forward pass; may change the last bits.

    Raises:
        UserError: the model or a layer does not exist, or an image cannot be used; one line.
        ServiceError: the model hub cannot be reached.
    """
    if tokens not in _TOKENS:
        raise UserError(f"tokens {tokens!r} is not known: choose from {', '.join(_TOKENS)}")
    spec = inspect_backbone(str(model), revision=revision)
    check_tokens(spec, tokens)
    wanted = check_layers(spec, _layers(layers, spec))
    backbone = Backbone.load(spec, layers=wanted, device=chosen_device(device))
    found: dict[int, list[np.ndarray]] = {layer: [] for layer in wanted}
    for batch in image_activations(backbone, images, tokens, batch_size=batch_size):
        for layer, values in batch.items():
            found[layer].append(values.numpy() if tokens in ("patches", "registers") else values[:, 0].numpy())
    return Extracted(spec, tokens, {layer: np.concatenate(found.pop(layer)) for layer in wanted})


def layer_numbers(layers: Any) -> list[int]:
    """Numbers of blocks as Python integers.

    Args:
        layers: one number or several, of Python or NumPy.

    Raises:
        UserError: one is no whole number.
    """
    given = list(layers) if hasattr(layers, "__iter__") else [layers]
    for one in given:
        if not isinstance(one, int | np.integer) or isinstance(one, bool):
            raise UserError(
                f"layer {one!r} is no number of a block: give whole numbers from 0, or a list such as '0-3,8'"
            )
    return [int(one) for one in given]


def _layers(layers: Sequence[int] | int | str, spec: BackboneSpec) -> Sequence[int]:
    if not isinstance(layers, str):
        return layer_numbers(layers)
    listed: tuple[int, ...] | Literal["all"]
    try:
        listed = parse_layers(layers)
    except UserError as error:
        raise UserError(f"layers {error}") from error
    return range(spec.n_layers) if listed == "all" else listed
