"""AUROC of columns before any threshold."""

from collections.abc import Callable, Iterator

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Float64, Int, Int64
from torch import Tensor

from hsae.hierarchy.controls.bases.columns import Columns
from hsae.hierarchy.kernels.blocks import column_blocks, go_on, latent_blocks, ranges
from hsae.hierarchy.kernels.device import Device, is_cpu, to_device, to_host
from hsae.hierarchy.kernels.greatest import sorted_rows
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

_BLOCK_MEMBERS = 1 << 22
"""Images under the nodes of some pairs whose positions are on the device at once."""


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
    order, so no image has its rank stored. Rank sums are exact integers. The host waits for a GPU once for a block.

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

    def score(block: slice) -> tuple[np.ndarray, np.ndarray]:
        values = columns.values(used[block])
        ordered = sorted_rows(values.clone())
        here = order[ends[block.start] : ends[block.stop]]
        place, node = which[here] - block.start, pairs[1][here]
        sums = [
            doubled_rank_sum(ordered[row], values[row].index_select(0, inside))
            for row, inside in zip(place.tolist(), members.of_pairs(node, values.device), strict=True)
        ]
        of_block = to_host({"sum": torch.stack(sums), "is_constant": ordered[:, 0] == ordered[:, -1]})
        n_in = members.n_under[node].astype(np.float64)
        deviation = of_block["sum"] - n_in * (n_images + 1)  # twice that of the rank sum
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 0.5 + deviation / (2 * n_in * (n_images - n_in))
        return here, np.where((n_in > 0) & (n_in < n_images) & ~of_block["is_constant"][place], found, np.nan)

    blocks = column_blocks(len(used), n_images, on_gpu=not is_cpu(device))
    for here, found in map_blocks(score, blocks, device, may_cut=False):
        check()
        auroc[here] = found
    return auroc


class _Members:
    """The images under every node.

    Attributes:
        n_under: how many there are.
    """

    def __init__(self, labels: Int64[np.ndarray, "n_images"], closure: "sp.csr_array[np.uint8]") -> None:
        self._by_set = np.argsort(labels, kind="stable")
        self._size = np.bincount(labels, minlength=closure.shape[0])
        self._start = np.cumsum(self._size) - self._size
        self._sets = sp.csc_array(closure)
        self.n_under: Int64[np.ndarray, "n_nodes"] = np.asarray(self._size @ (closure > 0).astype(np.int64))

    def of_pairs(self, nodes: Int[np.ndarray, "n_pairs"], device: Device) -> Iterator[Int64[Tensor, " n_in"]]:
        """The images under the node of each pair, on the device: those of many pairs are sent in one piece."""
        n_before = np.concatenate(([0], np.cumsum(self.n_under[nodes])))
        for run in latent_blocks(n_before, max_nonzeros=_BLOCK_MEMBERS):
            images = [self._under(int(node)) for node in nodes[run]]
            yield from torch.split(to_device(np.concatenate(images), device), [len(one) for one in images])

    def _under(self, node: int) -> Int64[np.ndarray, " n_in"]:
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
