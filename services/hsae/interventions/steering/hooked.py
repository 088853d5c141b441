"""An edit as a forward hook in the vision tower of anybody's model, for as long as a block of code runs."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from hsae.backbones.hooks.vision_tower import VisionTower
from hsae.backbones.spec import BackboneSpec, check_layers
from hsae.errors import UserError
from hsae.interventions.config import EditKind, Place
from hsae.interventions.edits import LatentEdit, TokenPlaces, edited, visited
from hsae.sae.model import SparseAutoencoder

SteeredTokens = Literal["cls", "patches", "mean", "all"]
"""Tokens that are edited; `mean`: of an SAE of mean tokens, whose change every patch gets."""


class Steering:
    """What an edit meets while it is installed; `hsae.steer` gives it.

    Attributes:
        latents: by edited latent its number: the factor, the value, or what is added.
        layer: the block after which it acts.
    """

    def __init__(self, latents: Mapping[int, float], layer: int) -> None:
        """Nothing is edited yet."""
        self.latents = dict(latents)
        self.layer = layer
        self._activations: list[Tensor] = []

    @property
    def n_images(self) -> int:
        """Images that went through the tower so far; a model that cuts an image into tiles has one for each tile."""
        return sum(map(len, self._activations))

    @property
    def activations(self) -> Float32[np.ndarray, "n_images n_chosen"]:
        """Of the edited latents in their order, the greatest over an image's edited tokens, before the edit."""
        if not self._activations:
            return np.zeros((0, len(self.latents)), np.float32)
        found: Float32[np.ndarray, "n_images n_chosen"] = torch.cat(self._activations).numpy()
        return found

    def note(self, activations: Float[Tensor, "batch n_chosen"]) -> None:
        """Add a batch of images; used by the hook."""
        self._activations.append(activations.float().cpu())

    def __repr__(self) -> str:
        return f"<Steering after block {self.layer}: latents {[*self.latents]}, {self.n_images} images so far>"


@contextmanager
def steering(
    tower: VisionTower,
    sae: SparseAutoencoder,
    changes: Mapping[int, float],
    *,
    layer: int,
    kind: EditKind,
    tokens: SteeredTokens | Sequence[int],
) -> Iterator[Steering]:
    """For as long as the context lasts latents are edited in every pass of the tower.

    The edit is that of `hsae.interventions.edits`, float32 whatever type the model is of. Where nothing changes the
    stream keeps its bits.

    Args:
        tower: where.
        sae: the SAE of the layer, on any device; it stays where it is.
        changes: by latent the factor (`scale`), the value (`clamp`), or what is added (`add`).
        layer: the stream after this block.
        kind: how they change.
        tokens: which tokens, by name or number.

    Raises:
        UserError: the tower has no such layer or token, the SAE is of another width, a latent is of another SAE, a
            number is not finite, or the edit would not reach what the model reads: all of these at once. At the end,
            where no image went through the tower.
    """
    changes = dict(changes)
    edit = _checked_edit(tower, sae, changes, layer, kind, tokens)
    found = Steering(changes, layer)
    on_device: dict[torch.device, LatentEdit] = {edit.sae.pre_bias.device: edit}

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        stream = output if isinstance(output, Tensor) else output[0]
        if stream.device not in on_device:
            there = copy.deepcopy(sae).to(stream.device)
            on_device[stream.device] = LatentEdit.of(there, changes, kind)
        here = on_device[stream.device]
        # Of images of another size the tower has other patches than its configuration says.
        n_patches = stream.shape[1] - tower.spec.n_prefix_tokens
        places = _places(tokens, tower.spec.model_copy(update={"n_patches": n_patches}))
        with torch.autocast(stream.device.type, enabled=False):
            rows = visited(stream, places)
            new = edited(stream, places, here.change(rows))
            found.note(here.strongest(rows, len(stream)))
        return new if isinstance(output, Tensor) else (new, *output[1:])

    # Before all other hooks: transformers collects hidden states, of which language models read one, by hooks, too.
    handle = tower.blocks[layer].register_forward_hook(hook, prepend=True)
    try:
        yield found
    finally:
        handle.remove()
    if not found.n_images:
        raise UserError(
            f"no image went through the vision tower of {tower.spec.name}, so nothing was edited: give the model"
            " pixel_values inside (a compiled model may leave hooks out)"
        )


def check_same_tower(spec: BackboneSpec, tower: VisionTower) -> None:
    """Check that a backbone may be the tower: type, depth and width are the same. Weights are not compared.

    Raises:
        UserError: they differ.
    """
    names = ("model_type", "n_layers", "d_model")
    if any(getattr(spec, name) != getattr(tower.spec, name) for name in names):
        here, there = (
            f"{each.name} ({each.model_type}, {each.n_layers} blocks of {each.d_model})" for each in (tower.spec, spec)
        )
        raise UserError(f"the vision tower of {here} is not {there}: give an analysis of this tower")


def _checked_edit(
    tower: VisionTower,
    sae: SparseAutoencoder,
    changes: Mapping[int, float],
    layer: int,
    kind: EditKind,
    tokens: SteeredTokens | Sequence[int],
) -> LatentEdit:
    """The edit, or all that is wrong in one line."""
    mistakes: list[str] = []

    def tried(make: Callable[[], Any]) -> Any:
        try:
            return make()
        except UserError as error:
            mistakes.append(str(error))
            return None

    def check_width() -> None:
        if sae.d_model != tower.spec.d_model:
            raise UserError(
                f"the SAE is of {sae.d_model} dimensions, the vision tower of {tower.spec.name} of"
                f" {tower.spec.d_model}: give an SAE of this tower"
            )

    is_there = tried(lambda: check_layers(tower.spec, [layer])) is not None
    tried(check_width)
    edit = tried(lambda: LatentEdit.of(sae, changes, kind))
    places = tried(lambda: _places(tokens, tower.spec))
    if is_there and places is not None:
        tried(lambda: _check_reached(tower, layer, places))
    if mistakes:
        raise UserError("; ".join(mistakes))
    checked: LatentEdit = edit
    return checked


def _check_reached(tower: VisionTower, layer: int, places: TokenPlaces) -> None:
    """Check that the rest of the model reads what is edited."""
    name, last = tower.spec.name, tower.last_read
    if layer > last:
        where = f"choose a layer from 0 to {last}" if last >= 0 else "no layer can be edited"
        raise UserError(
            f"{name} reads its vision tower after block {last}, and an edit in layer {layer} would change nothing:"
            f" {where}"
        )
    if layer == last and places.numbers == (0,) and tower.spec.has_class_token and not tower.reads_class_token:
        raise UserError(
            f"{name} reads the patches after block {last} and no class token, whose edit there would change nothing:"
            " edit patches, or an earlier layer"
        )


def _places(tokens: SteeredTokens | Sequence[int], spec: BackboneSpec) -> TokenPlaces:
    if not isinstance(tokens, str):
        return TokenPlaces.of(tuple(tokens), "", spec)
    if tokens not in get_args(SteeredTokens):
        raise UserError(f"there are no tokens {tokens!r}: choose from {', '.join(get_args(SteeredTokens))}, or numbers")
    place: Place = "all" if tokens == "all" else "own"
    return TokenPlaces.of(place, tokens, spec)
