"""What the kernels need of a device beyond plain torch: a fast sort on the CPU, sums in a fixed order on a GPU.

Everything else in the kernels is the same torch on both. Integers come out equal on every device; sums of activations
are added in a fixed order on each, so that they are the same bits from run to run, but not on the CPU and a GPU alike.
"""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int, Int64, Shaped
from torch import Tensor

Device = torch.device | str

_KEY_BITS = 63


def in_order(values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
    """The values (no NaN), ascending; `values` may be overwritten. Equal ones cannot be told apart."""
    if values.device.type == "cpu":
        values.numpy().sort()  # vectorised, several times as fast as torch's
        return values
    return torch.sort(values).values


def in_stable_order(key: Int64[Tensor, " n"], greatest: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """The keys, ascending, and where each was; equal ones keep their order.

    Where key and position fit one integer, no two of these are equal and they themselves are sorted, several times as
    fast as positions by key.

    Args:
        key: 0 to `greatest`; may be overwritten.
        greatest: a bound of the keys.
    """
    if len(key) == 0:
        return key, torch.empty_like(key)
    position_bits = (len(key) - 1).bit_length()
    if greatest.bit_length() + position_bits > _KEY_BITS:
        ordered, position = torch.sort(key, stable=True)
        return ordered, position
    key <<= position_bits
    key |= torch.arange(len(key), device=key.device)
    key = in_order(key)
    return key >> position_bits, key & ((1 << position_bits) - 1)


def groups(ordered: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " n_groups"], Int64[Tensor, " n"]]:
    """The runs of equal keys: where each begins, and the run of every key."""
    is_first = torch.ones(len(ordered), dtype=torch.bool, device=ordered.device)
    torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
    return true_places(is_first), is_first.cumsum(0) - 1


def true_places(mask: Bool[Tensor, " n"]) -> Int64[Tensor, " n_true"]:
    """Where the mask holds."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # several times as fast as torch's
    return mask.nonzero()[:, 0]


def run_lengths(start: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " n_runs"]:
    """How long runs are that begin at `start` and fill `total` places."""
    return torch.diff(start, append=torch.tensor([total], device=start.device))


def run_numbers(length: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " total"]:
    """The number of every run as often as it is long; `total` is the sum of the lengths."""
    if length.device.type == "cpu":
        return torch.from_numpy(np.repeat(np.arange(len(length)), length.numpy()))  # several times as fast as torch's
    return torch.arange(len(length), device=length.device).repeat_interleave(length, output_size=total)


def places(ordered: Float64[Tensor, " n"], wanted: Float64[Tensor, " n_wanted"]) -> Int64[Tensor, " n_wanted"]:
    """For every wanted value the number of ordered ones below it; for NaN all of them."""
    if ordered.device.type != "cpu":
        return torch.searchsorted(ordered, wanted)
    order = torch.from_numpy(np.argsort(wanted.numpy()))  # looked up in order, neighbours share the processor's cache
    found = torch.empty(len(wanted), dtype=torch.int64)
    found[order] = torch.searchsorted(ordered, wanted[order])
    return found


def counted(cell: Int64[Tensor, " n"], number: Int64[Tensor, " n"], n_cells: int) -> Int64[Tensor, " n_cells"]:
    """Sums of integers by cell; in any order they are the same."""
    return torch.zeros(n_cells, dtype=torch.int64, device=cell.device).scatter_add_(0, cell, number)


def added(cell: Int64[Tensor, " n"], value: Float64[Tensor, " n"], n_cells: int) -> Float64[Tensor, " n_cells"]:
    """Sums of floats by cell: one after the other on the CPU, sorted by cell first on a GPU (never by atomics)."""
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
    """The matrix of which column `j` has the values `indptr[j]:indptr[j + 1]` in their rows, no two in the same."""
    shape = (n_rows, len(indptr) - 1)
    if torch.device(device).type == "cpu":
        return torch.from_numpy(sp.csc_array((value.astype(np.float64), row, indptr), shape=shape).toarray(order="C"))
    column = torch.from_numpy(np.repeat(np.arange(shape[1]), np.diff(indptr))).to(device)
    cell = torch.from_numpy(row).to(device).long() * shape[1] + column
    dense = torch.zeros(shape, dtype=torch.float64, device=device)
    dense.view(-1).scatter_(0, cell, torch.from_numpy(value).to(device).double())
    return dense
