"""Identity and shape of a backbone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import UserError

Tokens = Literal["cls", "registers", "patches", "mean"]
Axes = Literal["vector", "tokens", "channels_first", "channels_last"]
"""Of what a module gives: [batch, width], [batch, token, width], [batch, width, row, column], or the width last."""


class RandomInit(BaseModel):
    """From what the weights of a randomly initialised backbone are drawn.

    Attributes:
        seed: seed of the generator.
        files: hub id or absolute folder of the configuration and the preprocessor.
        files_revision: commit hash on the hub, or "sha256-" and a checksum of these files.
        libraries: by name the versions of the libraries whose code draws the weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    files: str
    files_revision: str
    libraries: dict[str, str]


class HookShape(BaseModel):
    """What a hook point gives for one image.

    Attributes:
        width: numbers of a token.
        n_patches: number of patch tokens, or places of a map; 0 of a vector.
        n_prefix_tokens: number of tokens before the patches (class, distillation, registers); 1 of a vector.
        has_class_token: whether token 0 sums up the image, as a vector does.
        n_registers: how many of the tokens before the patches are registers, the last ones.
        axes: the order of the axes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int
    n_patches: int
    n_prefix_tokens: int = 0
    has_class_token: bool = False
    n_registers: int = 0
    axes: Axes = "tokens"


class BackboneSpec(BaseModel):
    """Identity and shape of a backbone; equal specs give equal activations.

    Attributes:
        name: hub id or absolute folder; of random weights followed by their seed.
        revision: commit hash on the hub, or "sha256-" and a checksum of a folder's files; of random weights "random-"
            and a checksum of everything that they are drawn from.
        model_type: type as transformers names it; of other libraries timm or open_clip and the model's class.
        n_layers: number of blocks.
        d_model: width of the residual stream; where blocks differ, after the last one.
        n_prefix_tokens: number of tokens before the patches (class, distillation, registers).
        has_class_token: whether token 0 is a class token.
        n_patches: number of patch tokens of one preprocessed image; where blocks differ, after the last one.
        preprocessing: everything that determines how an image becomes the model's input.
        random_init: from what random weights are drawn; None: the model's own weights.
        n_registers: how many of the tokens before the patches are registers, the last ones.
        shapes: by layer what the residual stream is like; None: the same in all layers.
        hook_shapes: by layer what the hook point that was asked about gives; None: none but the residual stream.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    name: str
    revision: str
    model_type: str
    n_layers: int
    d_model: int
    n_prefix_tokens: int
    has_class_token: bool
    n_patches: int
    preprocessing: dict[str, Any]
    random_init: RandomInit | None = None
    n_registers: int = 0
    shapes: dict[int, HookShape] | None = None
    hook_shapes: dict[int, HookShape] | None = None

    def shape(self, layer: int, hook: str = RESIDUAL) -> HookShape:
        """What a hook point gives at a layer; only that which was asked about is known, and the residual stream.

        Raises:
            UserError: the hook point is at another layer.
        """
        shapes = self.shapes if hook == RESIDUAL else self.hook_shapes or {}
        if shapes is None:
            return HookShape(
                width=self.d_model,
                n_patches=self.n_patches,
                n_prefix_tokens=self.n_prefix_tokens,
                has_class_token=self.has_class_token,
                n_registers=self.n_registers,
            )
        if layer not in shapes:
            there = ", ".join(map(str, shapes))
            raise UserError(
                f"the hook point {hook} of {self.name} is at layer {there}, not at {layer}: ask for that one"
            )
        return shapes[layer]


@dataclass(frozen=True, slots=True)
class BackboneSize:
    """What a model's config.json tells of its `BackboneSpec` without a library; `name` as the user wrote it."""

    name: str
    n_layers: int
    d_model: int


def check_layers(spec: BackboneSpec | BackboneSize, layers: Sequence[int]) -> tuple[int, ...]:
    """`layers`, sorted and without duplicates.

    Raises:
        UserError: there is no layer, or the backbone lacks one.
    """
    last = spec.n_layers - 1
    if not layers:
        raise UserError(f"no layer was asked for: {spec.name} has the layers 0 to {last}")
    wrong = sorted({layer for layer in layers if not 0 <= layer <= last})
    if wrong:
        listed = ", ".join(map(str, wrong))
        raise UserError(f"{spec.name} has no layer {listed}: choose from 0 to {last} (layer k is block k, from 0)")
    return tuple(sorted(set(layers)))


def check_tokens(spec: BackboneSpec, tokens: Tokens, *, hook: str = RESIDUAL, n_sampled: int = 0) -> None:
    """Check that a hook point of the backbone has the tokens, and that so many patches can be drawn of them (0: all).

    Raises:
        UserError: it does not.
    """
    known = spec.shapes if hook == RESIDUAL else spec.hook_shapes
    shapes = [spec.shape(0)] if known is None else list(known.values())
    where = f"{spec.name} ({spec.model_type})"
    if tokens == "cls" and not all(shape.has_class_token for shape in shapes):
        raise UserError(f"{where} has no class token: choose tokens mean or patches")
    if tokens == "registers" and not all(shape.n_registers for shape in shapes):
        raise UserError(f"{where} has no register tokens: choose other tokens")
    if tokens in ("patches", "mean") and not all(shape.n_patches for shape in shapes):
        raise UserError(
            f"the hook point {hook} of {where} gives one vector for an image and no patches: choose tokens cls"
        )
    if n_sampled and tokens != "patches":
        raise UserError(f"patches are drawn of tokens patches, not of {tokens}: leave the number of drawn patches out")
    fewest = min(shape.n_patches for shape in shapes)
    if n_sampled > fewest:
        raise UserError(f"{n_sampled} patches cannot be drawn of the {fewest} that {where} has: ask for fewer, or all")


def check_resizes(preprocessing: Mapping[str, Any], name: str) -> None:
    """Refuse images at a smaller scale for a model that takes a part of an image as it is.

    Args:
        preprocessing: its description (`Preprocessing.description`).
        name: of the model, for messages.

    Raises:
        UserError: the processor does not resize.
    """
    if not preprocessing.get("do_resize"):
        raise UserError(
            f"{name}: its image processor does not resize images, so none can be decoded at a smaller scale: leave"
            " decode at exact"
        )


def check_equal_rows(
    spec: BackboneSpec, layers: Sequence[int], tokens: Tokens, *, hook: str = RESIDUAL, n_sampled: int = 0
) -> None:
    """Check that all layers give as many rows of an image, as those of one extraction must.

    Raises:
        UserError: they do not.
    """
    counts = {layer: n_tokens(spec, tokens, hook=hook, n_sampled=n_sampled, layer=layer) for layer in layers}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} at layer {layer}" for layer, count in counts.items())
        raise UserError(
            f"the layers of {spec.name} differ in their number of patches ({listed}): ask for them one by one, draw as"
            " many of each (--patches-per-image N), or choose tokens mean"
        )


def n_tokens(
    spec: BackboneSpec, tokens: Tokens, *, hook: str = RESIDUAL, n_sampled: int = 0, layer: int | None = None
) -> int:
    """Rows of activations that one view of one image gives, at the last layer unless another is named.

    Args:
        spec: the backbone.
        tokens: which tokens.
        hook: the hook point.
        n_sampled: how many patches are drawn of an image; 0: all.
        layer: the layer.
    """
    known = spec.shapes if hook == RESIDUAL else spec.hook_shapes
    shape = spec.shape(max(known, default=0) if layer is None and known else layer or 0, hook)
    if tokens == "patches":
        return n_sampled or shape.n_patches
    return shape.n_registers if tokens == "registers" else 1
