"""AUROC of columns before any threshold."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Float64, Int, Int64

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

_BLOCK_VALUES = 1 << 22
_MIN_BLOCK_COLUMNS = 64


def dense_auroc(
    columns: Columns,
    labels: Int64[np.ndarray, "n_images"],
    closure: "sp.csr_array[np.uint8]",
    pairs: tuple[Int[np.ndarray, "n_pairs"], Int[np.ndarray, "n_pairs"]],
    *,
    device: Device = "cpu",
    check: Callable[[], None] = go_on,
) -> Float64[np.ndarray, "n_pairs"]:
    """AUROC of chosen pairs of a column and a node; NaN where undefined.

    Columns are projected and ranked in blocks, each in one thread. Rank sums are exact integers.

    Args:
        columns: the columns on the scored images.
        labels: class or label set of every image.
        closure: [n_classes, n_nodes].
        pairs: column and node of every pair, in any order.
        device: where the columns are projected.
        check: called for every block of columns; may raise to stop.
    """
    n_images, n_sets = len(labels), int(closure.shape[0])
    under = sp.csr_array(closure.T.astype(np.float64))
    n_node = np.asarray(under @ np.bincount(labels, minlength=n_sets).astype(np.float64))
    auroc = np.full(len(pairs[0]), np.nan)
    used, which = np.unique(pairs[0], return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(used) + 1))
    width = max(_MIN_BLOCK_COLUMNS, _BLOCK_VALUES // n_images)

    def score(block: slice) -> tuple[np.ndarray, np.ndarray]:
        ranks, is_constant = doubled_ranks(columns.values(used[block]))
        cell = np.arange(len(ranks))[:, np.newaxis] * n_sets + labels
        by_set = np.bincount(cell.ravel(), ranks.ravel(), len(ranks) * n_sets).reshape(-1, n_sets)
        by_node = np.asarray(under @ by_set.T)
        here = order[ends[block.start] : ends[block.stop]]
        place, node = which[here] - block.start, pairs[1][here]
        n_in = n_node[node]
        deviation = by_node[node, place] - n_in * (n_images + 1)  # twice that of the rank sum from its expectation
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 0.5 + deviation / (2 * n_in * (n_images - n_in))
        return here, np.where((n_in > 0) & (n_in < n_images) & ~is_constant[place], found, np.nan)

    blocks = (slice(first, min(first + width, len(used))) for first in range(0, len(used), width))
    for here, found in map_blocks(score, blocks, device):
        check()
        auroc[here] = found
    return auroc


def doubled_ranks(
    values: Float32[np.ndarray, "n_columns n_images"],
) -> tuple[Int64[np.ndarray, "n_columns n_images"], Bool[np.ndarray, "n_columns"]]:
    """Twice the mid-rank (1 = weakest) of every value in its row, an integer; and which rows are constant."""
    n_images = values.shape[1]
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    is_first = np.ones(values.shape, np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=is_first[:, 1:])
    start = np.flatnonzero(is_first)
    size = np.diff(start, append=values.size)
    rank = np.repeat(2 * (start % n_images) + size + 1, size).reshape(values.shape)
    ranks = np.empty(values.shape, np.int64)
    np.put_along_axis(ranks, order, rank, axis=1)
    return ranks, is_first.sum(axis=1) == 1
