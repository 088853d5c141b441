"""Baselines at the SAE's own densities: a threshold for every column, set on the select images.

A column that is compared with a latent must fire as often as a latent: one that fires on more images has a greater F1
at large nodes, one that fires on fewer has fewer classes. So the numbers of select images on which the SAE's alive
latents fire are given to the columns, rank by rank, and a column's threshold is the one that fires on so many (ours).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int64

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

_BLOCK_VALUES = 1 << 22
_MIN_BLOCK_COLUMNS = 64
"""Fewer columns per projection would read the activations too often."""


@dataclass(frozen=True, slots=True, eq=False)
class Densities:
    """How often the SAE's alive latents fire.

    Attributes:
        n_fire: number of select images on which each fires, descending; at least 1.
    """

    n_fire: Int64[np.ndarray, "n_alive"]

    @classmethod
    def of(cls, n_fire: Int64[np.ndarray, "n_latents"]) -> "Densities":
        """Of the latents' numbers of select images; latents that fire on none are left out."""
        return cls(np.sort(n_fire[n_fire > 0])[::-1])

    def for_columns(self, n_columns: int, *, all_fire: bool = False) -> Int64[np.ndarray, "n_columns"]:
        """The number of select images for each of `n_columns` columns, the densest first.

        With `m` columns that fire, the column of rank `r` (from 0) gets the number of the alive latent of rank
        `floor((r + 1/2) n_alive / m)`: of as many columns as alive latents, each gets that of its own rank.

        Args:
            n_columns: number of columns.
            all_fire: whether `m` is `n_columns`; otherwise it is at most the number of alive latents, and the columns
                left over get 0: a basis has as many silent columns as the SAE has dead latents.
        """
        n_alive = len(self.n_fire)
        m = n_columns if all_fire else min(n_columns, n_alive)
        counts = np.zeros(n_columns, np.int64)
        if n_alive:
            counts[:m] = self.n_fire[(2 * np.arange(m) + 1) * n_alive // (2 * m)]
        return counts


def thresholds(
    values: Float32[np.ndarray, "n_columns n_chosen"], n_fire: Int64[np.ndarray, "n_columns"]
) -> Float32[np.ndarray, "n_columns"]:
    """For every column the threshold above which it has `n_fire` values, or, with ties at the cut, as many as fit.

    The threshold lies half-way between the last value that is above and the first that is not (rounded to float32, but
    always below the former). A tie at the cut is not split: none of its values is above. A column fires on one image
    less than all at most; the threshold of one that must not fire is infinite.
    """
    n_columns, n_select = values.shape
    n_fire = np.minimum(n_fire, n_select - 1)
    ordered = np.sort(values, axis=1)
    row = np.arange(n_columns)
    last = ordered[row, np.minimum(n_select - n_fire, n_select - 1)]
    next_ = ordered[row, np.maximum(n_select - n_fire - 1, 0)]
    middle = ((last.astype(np.float64) + next_) / 2).astype(np.float32)
    cut = np.where(middle < last, middle, next_)
    return np.where(n_fire > 0, cut, np.float32(np.inf))


def thresholded(
    columns: Columns,
    n_fire: Int64[np.ndarray, "n_columns"],
    *,
    select: Int64[np.ndarray, "n_chosen"] | None = None,
    score: Int64[np.ndarray, "n_chosen"] | None = None,
    device: Device = "cpu",
    check: Callable[[], None] = go_on,
) -> "sp.csr_array[np.float32]":
    """The columns above their thresholds: `value - threshold` where that is positive, like a ReLU latent with a bias.

    Columns are projected in blocks, each in one thread; besides the result, memory holds a few blocks.

    Args:
        columns: the columns on all images.
        n_fire: number of select images for each column, in the order of `columns.order`; 0 only at the end.
        select: positions of the images that set the thresholds; None: all images.
        score: positions of further images that are wanted; None: all images.
        device: where the columns are projected: one thread per block of columns on the CPU.
        check: called for every block of columns; may raise to stop.

    Returns:
        float32[n_images, n_columns]; images that are neither selected nor scored have no entries.
    """
    n_images, n_columns = columns.n_images, columns.n_columns
    everything = np.arange(n_images)
    select = everything if select is None else select
    images = everything if score is None else np.union1d(select, score)
    used = columns if len(images) == n_images else columns.on(images)
    of_select = None if len(select) == len(images) else np.searchsorted(images, select)
    width = max(_MIN_BLOCK_COLUMNS, _BLOCK_VALUES // len(images))

    def fire(block: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        values = used.values(columns.order[block])
        cut = thresholds(values if of_select is None else values[:, of_select], n_fire[block])
        row, image = np.divmod(np.flatnonzero(values > cut[:, np.newaxis]), len(images))  # twice as fast as nonzero
        return columns.order[block][row], image, values[row, image] - cut[row]

    n_firing = int(np.count_nonzero(n_fire))  # the columns that do not fire come last
    blocks = (slice(first, min(first + width, n_firing)) for first in range(0, n_firing, width))
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for part in map_blocks(fire, blocks, device):
        check()
        parts.append(part)
    shape = (n_images, n_columns)
    nothing = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    column, image, value = (np.concatenate(of_blocks) for of_blocks in zip(nothing, *parts, strict=True))
    fired = sp.csr_array((value, (images[image], column)), shape=shape)
    fired.sort_indices()
    return fired
