"""Dense matrices to sparse ones where they are: of a GPU's matrix the non-zeros alone cross the bus."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32
from torch import Tensor

from hsae.hierarchy.kernels.device import is_cpu, to_host

_FIRST_GUESS = 128
"""Non-zeros of a row, before any row was seen."""
_ROOM = 1.25


class NonZeros:
    """Takes the non-zeros out of matrices of similar density.

    A GPU does not say how many there are unless the host waits for it. So there is room for a little more than the
    densest matrix so far had in a row, and only a matrix that needs more is gone through twice.
    """

    def __init__(self) -> None:
        """Know no density yet."""
        self._of_row = float(_FIRST_GUESS)

    def of(self, z: Float32[Tensor, "n_rows n_columns"]) -> "sp.csr_array[np.float32]":
        """The same matrix in CPU memory, with ascending indices; NaN counts as a non-zero."""
        if is_cpu(z.device):
            return sp.csr_array(z.numpy())
        n_rows, n_columns = z.shape
        while True:
            n_most = min(z.numel(), int(self._of_row * n_rows) + 1)
            found = to_host(_first_nonzeros(z, n_most))
            indptr = np.concatenate(([0], np.cumsum(found["n_of_row"])))
            n = int(indptr[-1])
            self._of_row = max(self._of_row, _ROOM * n / max(1, n_rows))
            if n <= n_most:
                break
        # Copies: the room that is left would live as long as the matrix.
        arrays = (found["value"][:n].copy(), found["column"][:n].copy(), indptr)
        return sp.csr_array(arrays, shape=(n_rows, n_columns))


def joined(parts: "list[sp.csr_array[np.float32]]", n_columns: int) -> "sp.csr_array[np.float32]":
    """The rows of all parts as one matrix; `parts` is emptied, and each part is freed as soon as it is copied."""
    n_rows, n = sum(part.shape[0] for part in parts), sum(part.nnz for part in parts)
    indptr = np.zeros(n_rows + 1, np.int64)
    column, value = np.empty(n, np.int32), np.empty(n, np.float32)
    row, first = 0, 0
    parts.reverse()
    while parts:
        part = parts.pop()
        end = first + part.nnz
        indptr[row + 1 : row + part.shape[0] + 1] = first + part.indptr[1:]
        column[first:end], value[first:end] = part.indices, part.data
        row, first = row + part.shape[0], end
    return sp.csr_array((value, column, indptr), shape=(n_rows, n_columns))


def _first_nonzeros(z: Float32[Tensor, "n_rows n_columns"], n_most: int) -> dict[str, Tensor]:
    """The first non-zeros, row by row: `n_most` columns and values; and how many non-zeros every row has."""
    is_there = z != 0
    place = torch.nonzero_static(is_there.view(-1), size=n_most, fill_value=0)[:, 0]
    return {
        "n_of_row": is_there.sum(dim=1),
        "column": (place % z.shape[1]).int(),
        "value": z.reshape(-1).index_select(0, place),
    }
