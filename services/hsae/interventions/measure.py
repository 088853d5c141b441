"""Many interventions on the same images, read by all readouts: what a job runs, on tensors alone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.interventions.effects import Effect, Readings, Tree
from hsae.interventions.passes import Intervention, LaterBlocks, outcomes
from hsae.interventions.readouts import Readout, ReadRows


@dataclass(frozen=True, slots=True, eq=False)
class ScoredBatch:
    """Images that are scored.

    Attributes:
        blocks: what follows the layer of the stream, for this batch.
        stream: all tokens after that layer, unedited.
        labels: the class of every image, a position in the taxonomy.
    """

    blocks: LaterBlocks
    stream: Tensor
    labels: Int64[np.ndarray, "batch"]


@dataclass(frozen=True, slots=True)
class Planned:
    """An intervention, the node that it is about (None: none in particular), and further nodes that are looked at."""

    intervention: Intervention
    target: int | None
    also: tuple[int, ...] = ()

    @property
    def nodes(self) -> tuple[int, ...]:
        """The nodes whose log-odds are kept for every image."""
        return tuple(dict.fromkeys((*(() if self.target is None else (self.target,)), *self.also)))


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of the images.

    Attributes:
        readings: of every readout, in their order.
        moved: of every image, the squared length of what changed in the row that readouts see.
    """

    readings: tuple[Readings, ...]
    moved: Float64[np.ndarray, "n"]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """All interventions on the same images.

    Attributes:
        labels: the class of every image.
        before: the unedited images.
        after: of every intervention, in their order.
        spread: mean squared distance of the unedited rows from their mean: the unit of `Outcome.moved`.
    """

    labels: Int64[np.ndarray, "n"]
    before: Outcome
    after: tuple[Outcome, ...]
    spread: float


@dataclass(slots=True, eq=False)
class _Recorded:
    effects: tuple[Effect, ...]
    moved: list[Tensor] = field(default_factory=list)  # on the device, which nobody waits for in between

    @classmethod
    def of(cls, n_readouts: int, targets: Sequence[int]) -> "_Recorded":
        return cls(tuple(Effect(tuple(targets)) for _ in range(n_readouts)))

    def outcome(self, labels: Int64[np.ndarray, "n"], tree: Tree) -> Outcome:
        moved = torch.cat(self.moved).cpu().numpy()
        return Outcome(tuple(Readings.of(effect, labels, tree) for effect in self.effects), moved)


@dataclass(frozen=True, slots=True)
class Reader:
    """How outcomes are read.

    Attributes:
        layer: the layer of the streams that are given.
        last: the layer that readouts see.
        rows: the row of a stream that they see.
        readouts: the readouts.
        tree: the taxonomy.
    """

    layer: int
    last: int
    rows: ReadRows
    readouts: tuple[Readout, ...]
    tree: Tree


def measure(
    batches: Iterable[ScoredBatch],
    planned: Sequence[Planned],
    reader: Reader,
    *,
    check: Callable[[], None] = lambda: None,
) -> Measured:
    """Run every intervention on every batch, each from the stream of its batch.

    Args:
        batches: the images.
        planned: the interventions.
        reader: how they are read.
        check: called before each pass; may raise to stop.

    Raises:
        UserError: there is no image.
    """
    targets = list(dict.fromkeys(node for each in planned for node in each.nodes))
    before = _Recorded.of(len(reader.readouts), targets)
    after = [_Recorded.of(len(reader.readouts), each.nodes) for each in planned]
    labels: list[np.ndarray] = []
    sums: Tensor | None = None
    squares = torch.zeros((), dtype=torch.float64)
    with torch.no_grad():
        for batch in batches:
            labels.append(batch.labels)
            start, last = reader.layer, reader.last
            plain = batch.blocks.resume(batch.stream, start, last) if last > start else batch.stream
            rows = reader.rows(plain).double()
            _record(before, plain, rows, batch.labels, reader)
            sums = rows.sum(0) if sums is None else sums + rows.sum(0)
            squares = squares + (rows**2).sum()
            every = [each.intervention for each in planned]
            found = outcomes(batch.blocks, start, batch.stream, every, last, check, plain=plain)
            for recorded, stream in zip(after, found, strict=True):
                _record(recorded, stream, rows, batch.labels, reader)
    if sums is None:
        raise UserError("no image is left to score: give more images, or another split")
    of_all = np.concatenate(labels)
    mean = sums.cpu().numpy() / len(of_all)
    spread = float(squares) / len(of_all) - float(mean @ mean)
    return Measured(
        of_all, before.outcome(of_all, reader.tree), tuple(each.outcome(of_all, reader.tree) for each in after), spread
    )


def _record(
    recorded: _Recorded, stream: Tensor, plain: Tensor, labels: Int64[np.ndarray, "batch"], reader: Reader
) -> None:
    change = reader.rows(stream).double() - plain
    recorded.moved.append((change**2).sum(1))
    for readout, effect in zip(reader.readouts, recorded.effects, strict=True):
        effect.add(readout.read(stream), labels, reader.tree)
