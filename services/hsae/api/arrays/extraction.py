"""`hsae.extract`: images to activations, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
from jaxtyping import Float32

from hsae.api.arrays.device import chosen_device
from hsae.api.arrays.images import BATCH_SIZE, ImageLike, image_activations
from hsae.api.frames import html_table
from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.inspection import describe, inspect_backbone
from hsae.backbones.spec import BackboneSpec, Tokens, check_layers, check_tokens
from hsae.errors import UserError
from hsae.extraction.config import Decode
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
        hook: which activations of a layer, by the canonical name of the hook point; `residual` is the stream after it.
    """

    spec: BackboneSpec
    tokens: Tokens
    activations: dict[int, Float32[np.ndarray, "n_images *token d_model"]]
    hook: str = RESIDUAL

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

    def _repr_html_(self) -> str:
        rows = [
            {"layer": layer, "shape": values.shape, "dtype": values.dtype} for layer, values in self.activations.items()
        ]
        return html_table(repr(self)[1:-1], rows, {name: name for name in ("layer", "shape", "dtype")})

    def __repr__(self) -> str:
        n_images = len(next(iter(self.activations.values())))
        hook = "" if self.hook == RESIDUAL else f" at {self.hook}"
        return f"<Extracted: {self.tokens} of {n_images} images, {self.spec.name}, layers {list(self.layers)}{hook}>"


class Computing(TypedDict, total=False):
    """How `extract` computes."""

    device: str
    batch_size: int
    decode: Decode


def extract(
    images: Sequence[ImageLike],
    *,
    model: str | Path,
    layers: Sequence[int] | int | str = "all",
    tokens: Tokens = "cls",
    hook: str = RESIDUAL,
    revision: str | None = None,
    **computing: Unpack[Computing],
) -> Extracted:
    """Compute a vision model's activations for images, without any server.

    The images are read, checked and preprocessed as by the pipeline. All activations are kept in memory.

    Args:
        images: paths, Pillow images, or uint8[height, width, 3].
        model: hub id or folder.
        layers: numbers of blocks from 0, a list such as "0-3,8", or "all".
        tokens: class token ("cls"), register tokens ("registers"), every patch token ("patches"), or the mean of the
            patch tokens ("mean").
        hook: hook point, as `submit --hook` takes it: the stream after a block ("residual"), what the block's attention
            or MLP adds to it ("attention", "mlp"), the image's embedding ("embedding"), or the path of a module. One
            that is at a single layer names its layer by itself.
        revision: branch, tag or commit of a hub model.
        computing: `device` ("auto", which is the default, "cpu" or "cuda"), `batch_size` (images per forward pass,
            32 by default; may change the last bits) and `decode` ("exact", or "scaled" as `submit --decode` has it;
            of files alone).

    Raises:
        UserError: the model, a layer or the hook point does not exist, or an image cannot be used; one line.
        ServiceError: the model hub cannot be reached.
    """
    for name in computing.keys() - Computing.__annotations__.keys():
        raise TypeError(f"extract() got an unexpected keyword argument {name!r}")
    if tokens not in _TOKENS:
        raise UserError(f"tokens {tokens!r} is not known: choose from {', '.join(_TOKENS)}")
    decode: Decode = computing.get("decode", "exact")
    if decode not in get_args(Decode):
        raise UserError(f"decode {decode!r} is not known: choose from {', '.join(get_args(Decode))}")
    if hook == RESIDUAL:
        spec = inspect_backbone(str(model), revision=revision)
        wanted = check_layers(spec, _layers(layers, spec))
    else:
        described = describe(str(model), revision=revision)
        hook, at = described.settled_layers(hook, "all" if layers == "all" else tuple(_layers(layers, described.spec)))
        spec = described.at(hook)
        wanted = check_layers(spec, range(spec.n_layers) if at == "all" else at)
    check_tokens(spec, tokens, hook=hook)
    backbone = Backbone.load(spec, layers=wanted, device=chosen_device(computing.get("device", "auto")), hook=hook)
    found: dict[int, list[np.ndarray]] = {layer: [] for layer in wanted}
    batch_size = computing.get("batch_size", BATCH_SIZE)
    for batch in image_activations(backbone, images, tokens, batch_size=batch_size, decode=decode):
        for layer, values in batch.items():
            found[layer].append(values.numpy() if tokens in ("patches", "registers") else values[:, 0].numpy())
    return Extracted(spec, tokens, {layer: np.concatenate(found.pop(layer)) for layer in wanted}, hook)


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
