"""Device-specific primitives beyond plain torch: a fast sort on the CPU, sums in a fixed order on a GPU.

All other code of the kernels is the same torch on every device. Integer results are equal on every device. Sums of
activations have a fixed order on each device: the same bits in every run, but other bits on a GPU than on the CPU.
"""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int, Int64, Shaped
from torch import Tensor

Device = torch.device | str

_KEY_BITS = 63


def sort_values(values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
    """The values (no NaN) in ascending order; `values` may be overwritten."""
    if values.device.type == "cpu":
        values.numpy().sort()  # vectorised, several times as fast as torch's
        return values
    return torch.sort(values).values


def stable_sort(key: Int64[Tensor, " n"], greatest: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """The keys in ascending order, and the former position of each; equal keys keep their order.

    If key and position fit one 63-bit integer, these integers are sorted. They are distinct, and sorting them is
    several times as fast as a stable sort of positions.

    Args:
        key: 0 to `greatest`; may be overwritten.
        greatest: an upper bound of the keys.
    """
    if len(key) == 0:
        return key, torch.empty_like(key)
    position_bits = (len(key) - 1).bit_length()
    if greatest.bit_length() + position_bits > _KEY_BITS:
        ordered, position = torch.sort(key, stable=True)
        return ordered, position
    key <<= position_bits
    key |= torch.arange(len(key), device=key.device)
    key = sort_values(key)
    return key >> position_bits, key & ((1 << position_bits) - 1)


def groups(ordered: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " n_groups"], Int64[Tensor, " n"]]:
    """Runs of equal keys: the start of each run, and the index of every key's run."""
    is_first = torch.ones(len(ordered), dtype=torch.bool, device=ordered.device)
    torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
    return true_indices(is_first), is_first.cumsum(0) - 1


def true_indices(mask: Bool[Tensor, " n"]) -> Int64[Tensor, " n_true"]:
    """Indices at which the mask is true."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # several times as fast as torch
    return mask.nonzero()[:, 0]


def run_lengths(start: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " n_runs"]:
    """Lengths of consecutive runs that begin at `start`; `total` is the sum of the lengths."""
    return torch.diff(start, append=torch.tensor([total], device=start.device))


def run_numbers(length: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " total"]:
    """The index of every run, repeated as often as the run is long; `total` is the sum of the lengths."""
    if length.device.type == "cpu":
        return torch.from_numpy(np.repeat(np.arange(len(length)), length.numpy()))  # several times as fast as torch's
    return torch.arange(len(length), device=length.device).repeat_interleave(length, output_size=total)


def segment_count(cell: Int64[Tensor, " n"], number: Int64[Tensor, " n"], n_cells: int) -> Int64[Tensor, " n_cells"]:
    """Sums of integers by cell, exact in any order."""
    return torch.zeros(n_cells, dtype=torch.int64, device=cell.device).scatter_add_(0, cell, number)


def segment_sum(cell: Int64[Tensor, " n"], value: Float64[Tensor, " n"], n_cells: int) -> Float64[Tensor, " n_cells"]:
    """Sums of floats by cell in a fixed order: sequential on the CPU, sorted by cell on a GPU (no atomic additions)."""
    sums = torch.zeros(n_cells, dtype=torch.float64, device=cell.device)
    if cell.device.type == "cpu":
        return sums.scatter_add_(0, cell, value)
    return sums.index_put_((cell,), value, accumulate=True)


def dense_columns(
    indptr: Int64[np.ndarray, "n_columns+1"],
    row: Int[np.ndarray, " n"],
    value: Shaped[np.ndarray, " n"],
    n_rows: int,
    device: Device,
) -> Float64[Tensor, "n_rows n_columns"]:
    """A dense matrix whose column `j` has the values `indptr[j]:indptr[j + 1]`, each in a different row."""
    shape = (n_rows, len(indptr) - 1)
    if torch.device(device).type == "cpu":
        return torch.from_numpy(sp.csc_array((value.astype(np.float64), row, indptr), shape=shape).toarray(order="C"))
    column = torch.from_numpy(np.repeat(np.arange(shape[1]), np.diff(indptr))).to(device)
    cell = torch.from_numpy(row).to(device).long() * shape[1] + column
    dense = torch.zeros(shape, dtype=torch.float64, device=device)
    dense.view(-1).scatter_(0, cell, torch.from_numpy(value).to(device).double())
    return dense
