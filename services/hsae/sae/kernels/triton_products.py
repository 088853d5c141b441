"""The sparse product and its gradient on CUDA, in Triton.

Every number is written by one program, which adds in the order of the entries: no atomic additions, and the same bits
in every run. Inputs may have any floating type; sums are float32 (float64 for float64).

`TRITON_INTERPRET=1` runs the same kernels on tensors of the CPU, which is how tests compare them with torch.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

# What kernels are given. Triton refuses annotations that it must look up, so these stand in quotes there.
_Pointer = Any
_Number = Any

COLUMNS = 256
"""How many numbers of a row a program handles at once."""
ENTRIES = 8
"""How many entries it loads at once."""
SPLIT = 64
"""The most entries that one program adds up where outputs are uneven."""
# The kernels are compiled for these; of what stands outside them they may read such constants alone.
_COLUMNS = tl.constexpr(COLUMNS)
_ENTRIES = tl.constexpr(ENTRIES)


def gather_sums(
    sources: Int[Tensor, "n_entries"],
    offsets: Int[Tensor, "n"],
    values: Float[Tensor, "n_entries"],
    table: Float[Tensor, "n_table d_model"],
    *,
    uneven: bool,
) -> Float[Tensor, "n d_model"]:
    """`out[i] = sum of values[e] * table[sources[e]]` over the entries from `offsets[i]` to where the next one begins.

    Args:
        sources: the table's row of each entry, in the order of the outputs.
        offsets: where the entries of each output begin, ascending.
        values: the weight of each entry.
        table: rows to sum.
        uneven: split outputs of many entries into parts of 64 that different programs add up, and add the parts in a
            second pass. A latent that fires on every row would otherwise keep one program busy for the whole batch.
    """
    n_entries, n_outputs = sources.shape[0], offsets.shape[0]
    # Filled on the device: a number that is copied there makes the host wait.
    ends = torch.cat([offsets[1:], offsets.new_full((min(n_outputs, 1),), n_entries)])
    if not uneven or n_outputs == 0:
        return _sums(sources, offsets, ends, values, table)
    parts_before = torch.cat([offsets.new_zeros(1), ((ends - offsets + SPLIT - 1) // SPLIT).cumsum(0)])
    # Known without asking the device: every output has less than one part that is not full.
    most_parts = n_outputs + n_entries // SPLIT
    part = torch.arange(most_parts, device=offsets.device)
    output = (torch.searchsorted(parts_before, part, right=True) - 1).clamp_max(n_outputs - 1)
    first = (offsets[output] + (part - parts_before[output]) * SPLIT).clamp_max(n_entries)
    last = torch.minimum(first + SPLIT, ends[output])
    wide = torch.float64 if table.dtype == torch.float64 else torch.float32
    sums = _sums(sources, first, last, values, table, dtype=wide)
    ones = sums.new_ones(1).expand(most_parts).contiguous()
    dtype = torch.promote_types(values.dtype, table.dtype)
    return _sums(part, parts_before[:-1].contiguous(), parts_before[1:].contiguous(), ones, sums, dtype=dtype)


def row_dots(
    left: Float[Tensor, "n_left d_model"],
    right: Float[Tensor, "n_right d_model"],
    left_rows: Int[Tensor, "n_entries"],
    right_rows: Int[Tensor, "n_entries"],
) -> Float[Tensor, "n_entries"]:
    """`out[e] = left[left_rows[e]] . right[right_rows[e]]`."""
    left, right = left.contiguous(), right.contiguous()
    n_entries, d_model = left_rows.shape[0], left.shape[1]
    out = torch.empty(n_entries, dtype=torch.promote_types(left.dtype, right.dtype), device=left.device)
    if n_entries > 0:
        with _on(left):
            _compiled(_row_dots)[(triton.cdiv(n_entries, ENTRIES),)](
                left, right, left_rows, right_rows, out, n_entries, d_model
            )
    return out


def _sums(
    sources: Tensor, first: Tensor, last: Tensor, values: Tensor, table: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    table, d_model = table.contiguous(), table.shape[1]
    dtype = torch.promote_types(values.dtype, table.dtype) if dtype is None else dtype
    out = torch.empty(first.shape[0], d_model, dtype=dtype, device=table.device)
    if out.numel() > 0:
        with _on(table):
            _compiled(_gather_sums)[(first.shape[0], triton.cdiv(d_model, COLUMNS))](
                sources, first, last, values.contiguous(), table, out, d_model
            )
    return out


def _gather_sums(
    sources: "_Pointer",
    first: "_Pointer",
    last: "_Pointer",
    values: "_Pointer",
    table: "_Pointer",
    out: "_Pointer",
    d_model: "_Number",
) -> None:
    """One output, some columns."""
    output = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * _COLUMNS + tl.arange(0, _COLUMNS)
    in_table = column < d_model
    wide = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    begin = tl.load(first + output)
    end = tl.load(last + output)
    total = tl.zeros((_COLUMNS,), dtype=wide)
    for start in range(begin, end, _ENTRIES):
        entry = start + tl.arange(0, _ENTRIES)
        here = entry < end
        source = tl.load(sources + entry, mask=here, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=here, other=0.0).to(wide)
        at = table + source[:, None] * d_model + column[None, :]
        rows = tl.load(at, mask=here[:, None] & in_table[None, :], other=0.0).to(wide)
        total += tl.sum(value[:, None] * rows, axis=0)
    tl.store(out + output * d_model + column, total.to(out.dtype.element_ty), mask=in_table)


def _row_dots(
    left: "_Pointer",
    right: "_Pointer",
    left_rows: "_Pointer",
    right_rows: "_Pointer",
    out: "_Pointer",
    n_entries: "_Number",
    d_model: "_Number",
) -> None:
    """Some entries, all columns."""
    entry = tl.program_id(0).to(tl.int64) * _ENTRIES + tl.arange(0, _ENTRIES)
    here = entry < n_entries
    left_row = tl.load(left_rows + entry, mask=here, other=0).to(tl.int64)
    right_row = tl.load(right_rows + entry, mask=here, other=0).to(tl.int64)
    wide = tl.float64 if out.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((_ENTRIES,), dtype=wide)
    for start in range(0, d_model, _COLUMNS):
        column = start + tl.arange(0, _COLUMNS)
        both = here[:, None] & (column < d_model)[None, :]
        of_left = tl.load(left + left_row[:, None] * d_model + column[None, :], mask=both, other=0.0).to(wide)
        of_right = tl.load(right + right_row[:, None] * d_model + column[None, :], mask=both, other=0.0).to(wide)
        total += tl.sum(of_left * of_right, axis=1)
    tl.store(out + entry, total.to(out.dtype.element_ty), mask=here)


KERNELS = (_gather_sums, _row_dots)
"""The kernels as plain functions; they are compiled when they are first called."""


@cache
def _compiled(kernel: Callable[..., None]) -> Any:
    return triton.jit(kernel)


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else nullcontext()
