"""Identity and shape of a backbone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from hsae.errors import UserError

Tokens = Literal["cls", "patches", "mean"]


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


class BackboneSpec(BaseModel):
    """Identity and shape of a backbone; equal specs give equal activations.

    Attributes:
        name: hub id or absolute folder; of random weights followed by their seed.
        revision: commit hash on the hub, or "sha256-" and a checksum of a folder's files; of random weights "random-"
            and a checksum of everything that they are drawn from.
        model_type: type as transformers names it.
        n_layers: number of blocks.
        d_model: width of the residual stream.
        n_prefix_tokens: number of tokens before the patches (class, distillation, registers).
        has_class_token: whether token 0 is a class token.
        n_patches: number of patch tokens of one preprocessed image.
        preprocessing: everything that determines how an image becomes the model's input.
        random_init: from what random weights are drawn; None: the model's own weights.
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


def check_tokens(spec: BackboneSpec, tokens: Tokens) -> None:
    """Check that the backbone has the tokens.

    Raises:
        UserError: it does not.
    """
    if tokens == "cls" and not spec.has_class_token:
        raise UserError(f"{spec.name} ({spec.model_type}) has no class token: choose tokens mean or patches")


def n_tokens(spec: BackboneSpec, tokens: Tokens) -> int:
    """Rows of activations that one view of one image gives."""
    return spec.n_patches if tokens == "patches" else 1
