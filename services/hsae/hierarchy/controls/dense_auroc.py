"""AUROC of columns before any threshold."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Float64, Int, Int64
from torch import Tensor

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.kernels.blocks import go_on, ranges
from hsae.hierarchy.kernels.device import Device
from hsae.hierarchy.kernels.greatest import sorted_rows
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

    Columns are projected and sorted in blocks, each in one thread. Only the images under the node are looked up in the
    order, so no image has its rank stored. Rank sums are exact integers.

    Args:
        columns: the columns on the scored images.
        labels: class or label set of every image.
        closure: [n_classes, n_nodes].
        pairs: column and node of every pair, in any order.
        device: where the columns are projected.
        check: called for every block of columns; may raise to stop.
    """
    n_images = len(labels)
    members = _Members(labels, closure)
    auroc = np.full(len(pairs[0]), np.nan)
    used, which = np.unique(pairs[0], return_inverse=True)
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(used) + 1))
    width = max(_MIN_BLOCK_COLUMNS, _BLOCK_VALUES // n_images)

    def score(block: slice) -> tuple[np.ndarray, np.ndarray]:
        values = columns.values(used[block])
        ordered = sorted_rows(values.clone())
        is_constant = (ordered[:, 0] == ordered[:, -1]).cpu().numpy()
        here = order[ends[block.start] : ends[block.stop]]
        place, node = which[here] - block.start, pairs[1][here]
        inside = [torch.from_numpy(members.under(int(one))).to(values.device) for one in node]
        sums = [
            doubled_rank_sum(ordered[row], values[row].index_select(0, images))
            for row, images in zip(place, inside, strict=True)
        ]
        n_in = np.array([len(images) for images in inside], np.float64)
        deviation = torch.stack(sums).cpu().numpy() - n_in * (n_images + 1)  # twice that of the rank sum
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 0.5 + deviation / (2 * n_in * (n_images - n_in))
        return here, np.where((n_in > 0) & (n_in < n_images) & ~is_constant[place], found, np.nan)

    blocks = (slice(first, min(first + width, len(used))) for first in range(0, len(used), width))
    for here, found in map_blocks(score, blocks, device, may_cut=False):
        check()
        auroc[here] = found
    return auroc


class _Members:
    """The images under every node."""

    def __init__(self, labels: Int64[np.ndarray, "n_images"], closure: "sp.csr_array[np.uint8]") -> None:
        self._by_set = np.argsort(labels, kind="stable")
        self._size = np.bincount(labels, minlength=closure.shape[0])
        self._start = np.cumsum(self._size) - self._size
        self._sets = sp.csc_array(closure)

    def under(self, node: int) -> Int64[np.ndarray, " n_in"]:
        sets = self._sets.indices[self._sets.indptr[node] : self._sets.indptr[node + 1]]
        found: Int64[np.ndarray, " n_in"] = self._by_set[ranges(self._start[sets], self._size[sets])[0]]
        return found


def doubled_rank_sum(ordered: Float32[Tensor, " n"], chosen: Float32[Tensor, " n_chosen"]) -> Int64[Tensor, ""]:
    """Twice the sum of the mid-ranks (1 = weakest) of some of the values among all of them, an integer.

    A value that is greater than `a` others and not greater than `b`, itself among them, has the mid-rank
    `(a + b + 1) / 2`.

    Args:
        ordered: all values, ascending.
        chosen: some of them, in any order.
    """
    lower = torch.searchsorted(ordered, chosen)
    upper = torch.searchsorted(ordered, chosen, right=True)
    return (lower + upper + 1).sum()
