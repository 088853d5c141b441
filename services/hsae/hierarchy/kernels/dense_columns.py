"""Dense matrices of a few columns from sparse ones."""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float64, Int, Int64, Shaped
from torch import Tensor

from hsae.hierarchy.kernels.device import Device, is_cpu, run_numbers, to_device


class DenseColumns:
    """Makes dense matrices, all with their values in the same cells; other cells are 0."""

    def __init__(
        self,
        indptr: Int64[np.ndarray, "n_columns+1"],
        row: Int[np.ndarray, " n"],
        n_rows: int,
        device: Device,
    ) -> None:
        """Column `j` has its values in the rows `row[indptr[j]:indptr[j + 1]]`, which differ."""
        self._shape = (n_rows, len(indptr) - 1)
        self._indptr, self._row, self._device = indptr, row, device
        if not is_cpu(device):
            column = run_numbers(to_device(np.diff(indptr), device), len(row))
            self._cell = to_device(row, device).long() * self._shape[1] + column

    def __call__(self, value: Shaped[np.ndarray, " n"]) -> Float64[Tensor, "n_rows n_columns"]:
        """A new matrix on the device, from one value per cell."""
        if is_cpu(self._device):
            columns = sp.csc_array((value.astype(np.float64), self._row, self._indptr), shape=self._shape)
            return torch.from_numpy(columns.toarray(order="C"))
        dense = torch.zeros(self._shape, dtype=torch.float64, device=self._device)
        dense.view(-1).scatter_(0, self._cell, to_device(value, self._device).double())
        return dense
