"""The k largest of every row of a wide matrix.

On the CPU the work of `topk` grows with the row. Maxima of blocks are ten times as cheap, and they show where to look:

1. The row is cut into blocks of 8, and 1, 2, 4 or 8 blocks into a group, such that there are at least 2 k groups.
2. The k-th largest maximum of a group is a threshold: k entries of the row at least are as large.
3. Only blocks whose maximum reaches the threshold are read. Of their entries some k reach it; `topk` sorts these.

Values and order are those of `topk`, to the bit; rows with equal values or NaN among the k largest go through `topk`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hsae.sae.kernels.devices import ways

_BLOCK = 8
_GROUPS_PER_ENTRY = 2
_MOST_CANDIDATES = 1 / 8
_FROM_SIZE = 2**16


def largest_of_rows(
    matrix: Float[Tensor, "n_rows n_columns"], k: int
) -> tuple[Float[Tensor, "n_rows k"], Int[Tensor, "n_rows k"]]:
    """`matrix.topk(k, dim=1)`: values in falling order, and their columns.

    Where values that are equal or NaN are among the k largest, the columns are those that `topk` chooses.
    """
    group = _group_size(matrix, k)
    if group == 0 or not matrix.is_contiguous() or matrix.shape[0] == 0:
        values, columns = matrix.topk(k, dim=1)
        return values, columns
    found = _by_blocks(matrix, k, group)
    if found is None:
        values, columns = matrix.topk(k, dim=1)
        return values, columns
    values, columns = found
    # Which of two equal values is the k-th shows in the next one. topk takes NaN for the largest value, so one NaN
    # stands in the first column.
    unclear = (values[:, 1:] == values[:, :-1]).any(dim=1) | ~(values[:, k - 1] > -torch.inf) | values[:, 0].isnan()
    values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
    if bool(unclear.any()):
        values[unclear], columns[unclear] = matrix[unclear].topk(k, dim=1)
    return values, columns


def _group_size(matrix: Tensor, k: int) -> int:
    """How many entries a group has; 0: blocks do not pay."""
    if not ways(matrix.device).selects_by_blocks or matrix.numel() < _FROM_SIZE:
        return 0
    for blocks in (8, 4, 2, 1):
        if matrix.shape[1] // (_BLOCK * blocks) >= _GROUPS_PER_ENTRY * k:
            return _BLOCK * blocks
    return 0


def _by_blocks(matrix: Tensor, k: int, group: int) -> tuple[Tensor, Tensor] | None:
    """See the module. Columns after the last whole group are candidates in every row.

    Returns:
        The k + 1 largest, of which the last may be the -infinity that fills a row; None where so many entries reach the
        threshold that nothing is gained. A row with NaN has values of -infinity.
    """
    n_rows, n_columns = matrix.shape
    whole = n_columns - n_columns % group
    n_blocks = whole // _BLOCK
    # Block b has the columns b, b + n_blocks, ...: the maximum of columns far apart is one of whole vectors.
    maxima = matrix[:, :whole].reshape(n_rows, _BLOCK, n_blocks).amax(dim=1)
    of_groups = maxima.view(n_rows, group // _BLOCK, -1).amax(dim=1)
    threshold = of_groups.topk(k, dim=1, sorted=False).values.amin(dim=1)

    block = true_places(maxima >= threshold[:, None])
    row = block // n_blocks
    reaches = threshold[row]
    first = row * n_columns + (block - row * n_blocks)
    places = first[:, None] + torch.arange(0, whole, n_blocks)
    flat = matrix.view(-1)
    values = flat.take(places)
    chosen = (values >= reaches[:, None]).view(-1).nonzero().view(-1)
    row = row[chosen // _BLOCK]
    values, places = values.view(-1)[chosen], places.view(-1)[chosen]

    starts = torch.searchsorted(row, torch.arange(n_rows))
    rank = torch.arange(row.shape[0]) - starts[row]
    width = max(k + 1, int(rank.max()) + 1) if row.shape[0] > 0 else k + 1
    if width > max(2 * k, int(_MOST_CANDIDATES * n_columns)):
        return None
    n_tail = n_columns - whole
    candidates = values.new_full((n_rows, width + n_tail), -torch.inf)
    columns = places.new_zeros((n_rows, width + n_tail))
    at = row * (width + n_tail) + rank
    candidates.view(-1)[at] = values
    columns.view(-1)[at] = places - row * n_columns
    candidates[:, width:] = matrix[:, whole:]
    columns[:, width:] = torch.arange(whole, n_columns)
    # No comparison with NaN holds: such a row found no block, and only its last columns are candidates.
    candidates[threshold.isnan()] = -torch.inf
    best = candidates.topk(k + 1, dim=1)
    return best.values, columns.gather(1, best.indices)


def true_places(mask: Bool[Tensor, "..."], n_true: int | None = None) -> Int[Tensor, "n"]:
    """The places of True in a contiguous mask, ascending: `mask.flatten().nonzero().flatten()`.

    Few are true, so eight at a time are looked at first, on the CPU four times as fast as `nonzero`.

    Args:
        mask: where to look.
        n_true: how many there are, where the caller knows: then nobody waits for a GPU. None: they are counted.
    """
    flat = mask.view(-1)
    if n_true is not None:
        return torch.nonzero_static(flat, size=n_true).view(-1)
    if flat.shape[0] % 8 or not ways(mask.device).selects_by_blocks:
        return flat.nonzero().view(-1)
    words = flat.view(torch.int64).nonzero().view(-1)
    inside = flat.view(-1, 8).index_select(0, words).view(-1).nonzero().view(-1)
    return words[inside >> 3] * 8 + (inside & 7)
