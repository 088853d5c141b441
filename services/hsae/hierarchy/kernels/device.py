"""Device-specific primitives beyond plain torch: fast sorts on the CPU, no waiting for a GPU, sums in a fixed order.

All other code of the kernels is the same torch on every device. Integers are equal on every device, and so are sums:
a sum over a run of values is taken in the order of the values. What depends on the values, such as the number of
groups of equal keys, is known to a GPU alone; to ask for it would make the host wait. So arrays of such a length have
as many places as there could be, the last of them empty.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, Shaped
from torch import Tensor
from torch.nn.functional import pad

Device = torch.device | str

_KEY_BITS = 63


def is_cpu(device: Device) -> bool:
    """Whether results of the device are at hand as soon as a function returns."""
    return torch.device(device).type == "cpu"


def to_device(values: Shaped[np.ndarray, "*shape"], device: Device) -> Shaped[Tensor, "*shape"]:
    """An array as a tensor on the device: on the CPU the same memory; to a GPU a copy for which nobody waits."""
    tensor = torch.from_numpy(values)
    return tensor if is_cpu(device) else tensor.pin_memory().to(device, non_blocking=True)


def to_host(parts: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors of one device as arrays; from a GPU in one copy, so that the host waits once."""
    if all(is_cpu(part.device) for part in parts.values()):
        return {name: part.numpy() for name, part in parts.items()}
    # The widest types first, so that every array is aligned.
    names = sorted(parts, key=lambda name: -parts[name].element_size())
    buffer = torch.cat([parts[name].reshape(-1).view(torch.uint8) for name in names]).cpu().numpy()
    arrays, end = {}, 0
    for name in names:
        part = parts[name]
        first, end = end, end + part.numel() * part.element_size()
        arrays[name] = buffer[first:end].view(_NUMPY_TYPES[part.dtype]).reshape(part.shape)
    return {name: arrays[name] for name in parts}


_NUMPY_TYPES = {
    dtype: torch.empty(0, dtype=dtype).numpy().dtype
    for dtype in (torch.float64, torch.float32, torch.int64, torch.int32, torch.bool)
}


def sort_values(values: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
    """The values (no NaN) in ascending order; `values` may be overwritten."""
    if is_cpu(values.device):
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
    """Runs of equal keys: the start of each run, and the index of every key's run.

    On a GPU there are as many starts as keys: beyond the last run they are `n`, so that these runs are empty.
    """
    n = len(ordered)
    is_first = torch.ones(n, dtype=torch.bool, device=ordered.device)
    torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
    run = is_first.cumsum(0) - 1
    if is_cpu(ordered.device):
        return true_indices(is_first), run
    # Keys that are no start are written to a place of their own behind the others, which is then cut off.
    start = torch.full((n + 1,), n, device=ordered.device)
    start.scatter_(0, torch.where(is_first, run, n), torch.arange(n, device=ordered.device))
    return start[:n], run


def at_starts(values: Shaped[Tensor, " n"], start: Int64[Tensor, " n_groups"]) -> Shaped[Tensor, " n_groups"]:
    """The value at every start of `groups`; of empty runs any value."""
    return values.index_select(0, start if is_cpu(values.device) else start.clamp(max=len(values) - 1))


def true_indices(mask: Bool[Tensor, " n"]) -> Int64[Tensor, " n_true"]:
    """Indices at which the mask is true; the host waits for a GPU."""
    if is_cpu(mask.device):
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # several times as fast as torch
    return mask.nonzero()[:, 0]


def run_lengths(start: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " n_runs"]:
    """Lengths of consecutive runs that begin at `start`; `total` is the sum of the lengths."""
    return torch.diff(start, append=start.new_full((1,), total))


def run_numbers(length: Int64[Tensor, " n_runs"], total: int) -> Int64[Tensor, " total"]:
    """The index of every run, repeated as often as the run is long; `total` is the sum of the lengths."""
    if is_cpu(length.device):
        return torch.from_numpy(np.repeat(np.arange(len(length)), length.numpy()))  # several times as fast as torch's
    return torch.arange(len(length), device=length.device).repeat_interleave(length, output_size=total)


def segment_count(
    run: Int64[Tensor, " n"], number: Int64[Tensor, " n"], length: Int64[Tensor, " n_runs"]
) -> Int64[Tensor, " n_runs"]:
    """Exact sums of integers over consecutive runs.

    On a GPU they are differences of running sums. To add every number to its run's sum in memory would make all numbers
    of a run wait for one another; where operations must be deterministic, torch even adds them one by one.

    Args:
        run: the run of every number, ascending.
        number: the numbers.
        length: how many numbers each run has; adds up to `n`.
    """
    if is_cpu(number.device):
        return torch.zeros(len(length), dtype=torch.int64).scatter_add_(0, run, number)
    end = length.cumsum(0)
    before = pad(number.cumsum(0), (1, 0))  # integers wrap around, so the differences are exact
    return before.index_select(0, end) - before.index_select(0, end - length)


def segment_sum(
    run: Int64[Tensor, " n"], value: Float64[Tensor, " n"], length: Int64[Tensor, " n_runs"]
) -> Float64[Tensor, " n_runs"]:
    """Sums of floats over consecutive runs, each in the order of the values: the same bits on every device.

    Args:
        run: the run of every value, ascending.
        value: the values.
        length: how many values each run has; adds up to `n`.
    """
    if is_cpu(value.device):
        return torch.zeros(len(length), dtype=torch.float64).scatter_add_(0, run, value)
    return row_sums(value[:, None], length)[:, 0]


def row_sums(rows: Float64[Tensor, "n width"], length: Int64[Tensor, " n_runs"]) -> Float64[Tensor, "n_runs width"]:
    """Sums over consecutive runs of rows, each in the order of the rows; `length` adds up to `n`.

    With two dimensions one thread of a GPU adds up one sum from its first row to its last, whatever else is summed
    beside it; with one dimension it would be a tree. `unsafe` leaves out checks for which the host would wait.
    """
    return torch.segment_reduce(rows, "sum", lengths=length, axis=0, unsafe=True)
