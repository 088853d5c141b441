"""A bounded shuffle: the order in which training reads rows that are not all in memory.

Every pass over the rows draws an order of the shards. `window_shards` of them, one after the other, are a window, and
the rows of a window have a random order of their own. Batches are cut from the windows' rows one after the other, so a
batch may begin in one window and end in the next, and every batch is full. The order is a pure function of the seed and
the step (Philox), so no state is saved or restored.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from hsae.sae.rows.random_streams import generator


class Piece(NamedTuple):
    """Neighbouring rows of one window: `start` to `stop` (exclusive) in the window's order."""

    window: int
    start: int
    stop: int


class _Pass(NamedTuple):
    """One pass over the rows: the shards of each of its windows, and where the rows of each end in its order."""

    epoch: int
    windows: list[list[int]]
    ends: npt.NDArray[np.int64]


class WindowOrder:
    """The windows of every pass over the training rows, and the batches that are cut from them.

    A window is known by its number, counted on from pass to pass. A pass drops the `n_rows % batch_size` rows at the
    end of its order, which are other rows in every pass; every other row comes exactly once. Several threads may ask.
    """

    def __init__(self, rows_per_shard: Int64[Tensor, "n_shards"], window_shards: int, batch_size: int, seed: int):
        """Set the order of the training rows.

        Args:
            rows_per_shard: how many training rows each shard has; a shard without any is never read.
            window_shards: shards per window; the last window of a pass has what is left.
            batch_size: rows per step, at most as many as there are.
            seed: of the order.
        """
        self._rows_per_shard = rows_per_shard
        self._shards = torch.nonzero(rows_per_shard).flatten().numpy()
        self._window_shards = window_shards
        self._seed = seed
        self.batch_size = batch_size
        self.n_rows = int(rows_per_shard.sum())
        self.batches_per_epoch = self.n_rows // batch_size
        self.windows_per_epoch = -(-len(self._shards) // window_shards)
        self._last = _Pass(-1, [], np.empty(0, dtype=np.int64))

    @property
    def identity(self) -> tuple[object, ...]:
        """What two orders have in common that give the same batches."""
        counts = tuple(self._rows_per_shard.tolist())
        return counts, self._window_shards, self.batch_size, self._seed

    def shards(self, window: int) -> list[int]:
        """The shards of a window, in the order in which they are read."""
        epoch, number = divmod(window, self.windows_per_epoch)
        return self._drawn(epoch).windows[number]

    def row_order(self, window: int) -> Int64[Tensor, "n_rows"]:
        """The order of a window's rows: at each place, the number of a row among those of its shards in their order."""
        epoch, number = divmod(window, self.windows_per_epoch)
        n_rows = int(self._rows_per_shard[self.shards(window)].sum())
        return torch.from_numpy(generator(self._seed, epoch, 1 + number).permutation(n_rows))

    def pieces(self, step: int) -> list[Piece]:
        """Where the rows of a step's batch (counted from 0) stand, in their order."""
        epoch, position = divmod(step, self.batches_per_epoch)
        ends = self._drawn(epoch).ends
        start, stop = position * self.batch_size, (position + 1) * self.batch_size
        found = []
        number = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            begin = int(ends[number - 1]) if number else 0
            end = min(stop, int(ends[number]))
            found.append(Piece(epoch * self.windows_per_epoch + number, start - begin, end - begin))
            start = end
            number += 1
        return found

    def _drawn(self, epoch: int) -> _Pass:
        """The pass, as one value: another thread may ask for another pass at any time."""
        last = self._last
        if last.epoch == epoch:
            return last
        order = self._shards[generator(self._seed, epoch).permutation(len(self._shards))].tolist()
        size = self._window_shards
        windows = [order[start : start + size] for start in range(0, len(order), size)]
        ends = np.cumsum([int(self._rows_per_shard[shards].sum()) for shards in windows])
        self._last = drawn = _Pass(epoch, windows, ends)
        return drawn
