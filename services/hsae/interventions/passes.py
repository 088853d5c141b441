"""From edits of one or several layers to the stream after the last block, of many edits over the same images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float
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
    """Edits of one or several layers, applied in one pass; an edit sees the stream that earlier ones left."""

    edits: tuple[LayerEdit, ...]

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
            now = edited(now, each.places, each.edit.change(rows))
        yield blocks.resume(now, at, last) if at < last else now
