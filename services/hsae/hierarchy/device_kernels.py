"""What the kernels need of a device beyond plain torch: a fast sort on the CPU, sums in a fixed order on a GPU.

Everything else in the kernels is the same torch on both. Integers come out equal on every device; sums of activations
are added in a fixed order on each, so that they are the same bits from run to run, but not on the CPU and a GPU alike.
"""

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
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


def put(cells: Float64[Tensor, " n_cells"], cell: Int64[Tensor, " n"], value: Shaped[Tensor, " n"]) -> None:
    """Write each value into its cell; no two are of the same."""
    if cells.device.type == "cpu":
        cells.numpy()[cell.numpy()] = value.numpy()  # converts on the way
    else:
        cells.scatter_(0, cell, value.double())


class ClosureProduct:
    """A 0/1 matrix times dense float64: sparse on the CPU; dense on a GPU, whose sparse product has no fixed order."""

    def __init__(self, matrix: "sp.csr_array[np.float64]", device: Device) -> None:
        """Take `matrix` [n_rows, n_columns] to the device."""
        self._matrix = matrix
        self._dense = None if torch.device(device).type == "cpu" else torch.from_numpy(matrix.toarray()).to(device)

    def __call__(self, right: Float64[Tensor, "n_columns n"]) -> Float64[Tensor, "n_rows n"]:
        """The product; every row is added up in the same order of columns."""
        if self._dense is None:
            return torch.from_numpy(np.asarray(self._matrix @ right.numpy()))
        return self._dense @ right
