"""Sums per class times the taxonomy's closure: sums per node, of integers by way of running sums."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from hsae.hierarchy.kernels.device import Device

_N_DECIDING = 32
"""More than ImageNet's classes have; label sets of many labels have hundreds of ancestors."""


class ClosureProduct:
    """A 0/1 matrix times dense float64: sparse on the CPU; dense on a GPU, whose sparse product has no fixed order.

    In a good order of the classes those under a node form few runs, and of integers the sum over a run is exactly the
    difference of two running sums (summation by parts): a node of a thousand classes then costs a few additions. No
    node is assumed to have one parent; a bad order or many parents only make more runs.
    """

    def __init__(self, matrix: "sp.csr_array[np.float64]", device: Device) -> None:
        """Take `matrix` [n_nodes, n_classes], its columns in the order in which right sides come, to the device."""
        self._matrix = matrix
        self._dense: Tensor | None = None
        if torch.device(device).type == "cpu":
            n_classes = matrix.shape[1]
            self._of_running_sums = sp.csr_array(matrix @ (sp.eye_array(n_classes) - sp.eye_array(n_classes, k=-1)))
            self._of_running_sums.eliminate_zeros()
            self._of_running_sums.sort_indices()  # one run after the other: no partial sum grows beyond a node's sum
        else:
            self._dense = torch.from_numpy(matrix.toarray()).to(device)

    def __call__(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The product; every row is added up in the same order of columns."""
        if self._dense is None:
            return torch.from_numpy(np.asarray(self._matrix @ right.numpy()))
        return self._dense @ right

    def of_integers(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The exact product of integers of which no sum over some rows reaches 2**52; `right` is overwritten."""
        if self._dense is None:
            return torch.from_numpy(np.asarray(self._of_running_sums @ right.cumsum_(0).numpy()))
        return self._dense @ right


def classes_in_runs(closure: "sp.csr_array[np.uint8]") -> Int64[np.ndarray, "n_classes"]:
    """An order of the classes in which those under a node are mostly neighbours: of a tree, that of a depth-first walk.

    Classes are sorted by their ancestors, from the largest down; the first 32 decide.

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
    return np.lexsort(ancestors[::-1]) if len(ancestors) else np.arange(n_classes)  # its last key is the first
