"""From edits of one or several layers to the stream after the last block, of many edits over the same images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float
from torch import Tensor

from hsae.errors import UserError
from hsae.interventions.edits import Edit, TokenPlaces, VisitedRows, edited, visited

Stream = Float[Tensor, "batch n_all d_model"]


class LaterBlocks(Protocol):
    """The blocks after the layer that is edited (`hsae.backbones.passes.restarted_pass.RecordedPass` has them)."""

    def resume(self, stream: Stream, start: int, stop: int) -> Stream:
        """The stream after block `stop`, where it is `stream` after block `start`."""


@dataclass(frozen=True)
class LayerEdit:
    """An edit with its place: the stream after block `layer`, at some tokens."""

    layer: int
    places: TokenPlaces
    edit: Edit


@dataclass(frozen=True)
class Intervention:
    """Edits of one or several layers, applied in one pass; an edit sees the stream that earlier ones left.

    Attributes:
        edits: the edits.
        only_changed: whether images that a single edit leaves as they are keep the unedited outcome, and the others
            alone have a pass. Single latents are silent on most images. The last bits of a pass depend on how many
            images share it, so that these may differ from those of the whole batch.
    """

    edits: tuple[LayerEdit, ...]
    only_changed: bool = False

    def __post_init__(self) -> None:
        """Check that there is an edit.

        Raises:
            UserError: there is none.
        """
        if not self.edits:
            raise UserError("an intervention has no edit: give at least one")

    @property
    def first_layer(self) -> int:
        """The layer at which the pass must restart at the latest."""
        return min(each.layer for each in self.edits)


def outcomes(
    blocks: LaterBlocks,
    start: int,
    stream: Stream,
    interventions: Sequence[Intervention],
    last: int,
    check: Callable[[], None] = lambda: None,
    *,
    plain: Stream | None = None,
) -> Iterator[Stream]:
    """The stream after block `last` for each intervention, all from one stream after block `start`.

    The SAE's latents of the given stream are computed once for all interventions. Every intervention has a pass of its
    own with the batch's own shape, so that one without effect has the bits of the unedited pass.

    Args:
        blocks: what follows.
        start: the layer whose stream is given.
        stream: all tokens.
        interventions: each begins at `start` or later.
        last: the layer to read.
        check: called before each; may raise to stop.
        plain: the unedited stream after block `last`, for interventions with `only_changed`.

    Raises:
        UserError: an intervention is in a layer before `start` or after `last`.
    """
    seen: dict[TokenPlaces, VisitedRows] = {}
    for intervention in interventions:
        check()
        outside = [each.layer for each in intervention.edits if not start <= each.layer <= last]
        if outside:
            raise UserError(f"layer {outside[0]} cannot be edited in a pass from layer {start} to layer {last}")
        at, now = start, stream
        for each in sorted(intervention.edits, key=lambda one: one.layer):
            if each.layer > at:
                now = blocks.resume(now, at, each.layer)
                at = each.layer
            if now is not stream:
                rows = visited(now, each.places)
            elif each.places in seen:
                rows = seen[each.places]
            else:
                rows = seen[each.places] = visited(stream, each.places)
            change = each.edit.change(rows)
            if plain is not None and intervention.only_changed and len(intervention.edits) == 1 and at < last:
                is_changed = (change != 0).view(len(now), -1).any(1)
                now, at = _of_changed(blocks, edited(now, each.places, change), is_changed, plain, (at, last)), last
            else:
                now = edited(now, each.places, change)
        yield blocks.resume(now, at, last) if at < last else now


def _of_changed(
    blocks: LaterBlocks, stream: Stream, is_changed: Bool[Tensor, "batch"], plain: Stream, way: tuple[int, int]
) -> Stream:
    """The outcome of the images that are changed, and for the others the unedited one."""
    where = is_changed.nonzero().squeeze(1)  # what a GPU is waited for, once
    if not len(where):
        return plain
    whole = plain.clone()
    whole[where] = blocks.resume(stream[where], *way)
    return whole
