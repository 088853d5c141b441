"""Product of sums per class with the taxonomy's closure: sums per node. Integers use running sums."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from hsae.hierarchy.kernels.device import Device

_N_DECIDING = 32
"""Ancestors that decide the order of classes. ImageNet's classes have fewer; sets of many labels have hundreds."""


class ClosureProduct:
    """Product of a 0/1 matrix with a dense float64 matrix.

    The 0/1 matrix is sparse on the CPU. On a GPU it is dense, because a GPU's sparse product has no fixed order of
    sums.

    In a good order of the classes, the classes under a node form few runs. The sum of integers over a run is exactly
    the difference of two running sums (summation by parts), so a node of a thousand classes costs a few additions. A
    node may have several parents; a bad order or many parents only make more runs.
    """

    def __init__(self, matrix: "sp.csr_array[np.float64]", device: Device) -> None:
        """Put `matrix` [n_nodes, n_classes] on the device; its columns are ordered as the rows of right factors."""
        self._matrix = matrix
        self._dense: Tensor | None = None
        if torch.device(device).type == "cpu":
            n_classes = matrix.shape[1]
            self._of_running_sums = sp.csr_array(matrix @ (sp.eye_array(n_classes) - sp.eye_array(n_classes, k=-1)))
            self._of_running_sums.eliminate_zeros()
            self._of_running_sums.sort_indices()  # run by run: no partial sum exceeds the sum of a node
        else:
            self._dense = torch.from_numpy(matrix.toarray()).to(device)

    def __call__(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The product; every row sums the columns in the same order."""
        if self._dense is None:
            return torch.from_numpy(np.asarray(self._matrix @ right.numpy()))
        return self._dense @ right

    def of_integers(self, right: Float64[Tensor, "n_classes n"]) -> Float64[Tensor, "n_nodes n"]:
        """The exact product of integers whose sums over rows stay below 2**52; `right` is overwritten."""
        if self._dense is None:
            return torch.from_numpy(np.asarray(self._of_running_sums @ right.cumsum_(0).numpy()))
        return self._dense @ right


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
