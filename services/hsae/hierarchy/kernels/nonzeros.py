"""Dense matrices to sparse ones where they are: of a GPU's matrix the non-zeros alone cross the bus."""

from collections.abc import Callable, Mapping, Sequence

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
        return to_sparse([self], [lambda: z])[0]

    def first(self, z: Float32[Tensor, "n_rows n_columns"]) -> dict[str, Tensor]:
        """As many non-zeros as there is room for, still on the device."""
        n_most = min(z.numel(), int(self._of_row * len(z)) + 1)
        return _first_nonzeros(z, n_most)

    def whole(self, found: Mapping[str, np.ndarray], n_columns: int) -> "sp.csr_array[np.float32] | None":
        """The matrix from what `first` found; None if it has more non-zeros: ask again, now there is room."""
        n_rows = len(found["n_of_row"])
        indptr = np.concatenate(([0], np.cumsum(found["n_of_row"])))
        n = int(indptr[-1])
        self._of_row = max(self._of_row, _ROOM * n / max(1, n_rows))
        if n > len(found["value"]):
            return None
        # Copies: the room that is left would live as long as the matrix.
        arrays = (found["value"][:n].copy(), found["column"][:n].copy(), indptr)
        return sp.csr_array(arrays, shape=(n_rows, n_columns))


def to_sparse(
    densities: Sequence[NonZeros], make: Sequence[Callable[[], Float32[Tensor, "n_rows n_columns"]]]
) -> "list[sp.csr_array[np.float32]]":
    """Several matrices of one device in CPU memory, each with ascending indices; the host waits once for all of them.

    Only one of them is there at a time: of each, what is not 0 stays on the device until that of all is fetched. A
    matrix that is denser than those before it is made a second time.

    Args:
        densities: what is known of each matrix's density.
        make: makes each matrix; called again, it makes the same one.
    """
    found: dict[int, sp.csr_array] = {}
    while len(found) < len(make):
        parts: dict[str, Tensor] = {}
        n_columns: dict[int, int] = {}
        for number, density in enumerate(densities):
            if number in found:
                continue
            z = make[number]()
            if is_cpu(z.device):
                found[number] = sp.csr_array(z.numpy())
                continue
            n_columns[number] = z.shape[1]
            parts |= {f"{number} {name}": part for name, part in density.first(z).items()}
            del z  # or it would lie beside the next one
        arrays = to_host(parts)
        for number, width in n_columns.items():
            of_one = {name: arrays[f"{number} {name}"] for name in ("n_of_row", "column", "value")}
            whole = densities[number].whole(of_one, width)
            if whole is not None:
                found[number] = whole
    return [found[number] for number in range(len(make))]


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
