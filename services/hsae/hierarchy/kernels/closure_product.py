"""Product of sums per class with the taxonomy's closure: sums per node. Integers use running sums."""

from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.kernels.device import Device, is_cpu, row_sums, to_device

_BLOCK_CELLS = 1 << 27
"""Gathered values on a GPU at a time: 1 GB."""

_N_DECIDING = 32
"""Ancestors that decide the order of classes. ImageNet's classes have fewer; sets of many labels have hundreds."""


class ClosureProduct:
    """Product of a 0/1 matrix with a dense float64 matrix; the same bits on every device.

    The 0/1 matrix stays sparse everywhere: as a dense one, the closure of 21,000 classes takes 4 GB. A GPU's own sparse
    product has no fixed order of sums, so there the rows of the right factor are gathered and summed run by run, in
    blocks of bounded memory.

    In a good order of the classes, the classes under a node form few runs. The sum of integers over a run is exactly
    the difference of two running sums (summation by parts), so a node of a thousand classes costs a few additions. A
    node may have several parents; a bad order or many parents only make more runs.
    """

    def __init__(self, matrix: "sp.csr_array[np.float64]", device: Device) -> None:
        """Take `matrix` [n_nodes, n_classes]; its columns are ordered as the rows of right factors."""
        self._device = device
        self._matrix = sp.csr_array(matrix)
        n_classes = matrix.shape[1]
        self._of_running_sums = sp.csr_array(matrix @ (sp.eye_array(n_classes) - sp.eye_array(n_classes, k=-1)))
        self._of_running_sums.eliminate_zeros()
        self._of_running_sums.sort_indices()  # run by run: no partial sum exceeds the sum of a node

    def __call__(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The product; every row sums the columns in the same order."""
        if is_cpu(self._device):
            return torch.from_numpy(np.asarray(self._matrix @ right.numpy()))
        return self._on_gpu.product(right)

    def of_integers(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The exact product of integers whose sums over rows stay below 2**52; `right` is overwritten."""
        if is_cpu(self._device):
            return torch.from_numpy(np.asarray(self._of_running_sums @ right.cumsum_(0).numpy()))
        return self._of_running_sums_on_gpu.product(right.cumsum_(0))

    @cached_property
    def _on_gpu(self) -> "_Rows":
        return _Rows(self._matrix, self._device)

    @cached_property
    def _of_running_sums_on_gpu(self) -> "_Rows":
        return _Rows(self._of_running_sums, self._device)


class _Rows:
    """A sparse matrix on a GPU, row by row."""

    def __init__(self, matrix: "sp.csr_array[np.float64]", device: Device) -> None:
        self._indptr = matrix.indptr.astype(np.int64)
        self._column = to_device(matrix.indices.astype(np.int64), device)
        self._value = to_device(matrix.data, device)[:, None]
        self._length = to_device(np.diff(self._indptr), device)

    def product(self, right: Float64[Tensor, "n_columns n"]) -> Float64[Tensor, "n_rows n"]:
        """The product with a dense matrix: of every row the sum in the order of its columns."""
        n_rows, width = len(self._length), right.shape[1]
        found = right.new_empty((n_rows, width))
        for rows in latent_blocks(self._indptr, max_nonzeros=max(1, _BLOCK_CELLS // max(1, width))):
            of_rows = slice(int(self._indptr[rows.start]), int(self._indptr[rows.stop]))
            gathered = right.index_select(0, self._column[of_rows]).mul_(self._value[of_rows])
            found[rows] = row_sums(gathered, self._length[rows])
        return found


def classes_in_runs(closure: "sp.csr_array[np.uint8]") -> Int64[np.ndarray, "n_classes"]:
    """An order in which the classes under a node are mostly neighbours; for a tree, the order of a depth-first walk.

    Classes are sorted by their ancestors, the largest ancestor first; the first 32 ancestors decide.

    Args:
        closure: [n_classes, n_nodes].
    """
    n_classes, n_nodes = closure.shape
    rank = np.empty(n_nodes, np.int64)
    rank[np.argsort(-np.bincount(closure.indices, minlength=n_nodes), kind="stable")] = np.arange(n_nodes)
    row = np.repeat(np.arange(n_classes), np.diff(closure.indptr))
    by_size = rank[closure.indices]
    in_order = np.lexsort((by_size, row))
    place = np.arange(len(row)) - closure.indptr[row]
    decides = place < _N_DECIDING
    ancestors = np.full((int(place[decides].max(initial=-1)) + 1, n_classes), n_nodes)
    ancestors[place[decides], row[decides]] = by_size[in_order][decides]
    return (
        np.lexsort(ancestors[::-1]) if len(ancestors) else np.arange(n_classes)
    )  # lexsort: the last key is the primary one
