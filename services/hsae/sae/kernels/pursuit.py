"""Matching pursuit of rows in a dictionary of unit directions, and its gradient.

From the residual `r_0` (the row) on, each of k steps takes the direction that points most along the residual:

    j_t = argmax_j d_j . r_{t-1}        (the lower latent among equals)
    v_t = max(0, d_{j_t} . r_{t-1})
    r_t = r_{t-1} - v_t * d_{j_t}

The gradient of a loss of `r_k` goes through all steps; the choice of `j_t` has none. With `g_k` the loss's gradient:

    a_t     = -g_t . d_{j_t} where v_t > 0, else 0
    g_{t-1} = g_t + a_t * d_{j_t}
    gradient of d_{j_t} += a_t * r_{t-1} - v_t * g_t
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK_NUMBERS = 1 << 21
_CHUNK_NUMBERS_OF_A_GPU = 1 << 27
_LARGEST_GRAM = 1 << 28


@torch.no_grad()
def pursue(
    rows: Float[Tensor, "batch d_model"], directions: Float[Tensor, "n_latents d_model"], k: int
) -> Int[Tensor, "batch k"]:
    """The direction that each step takes.

    The products with all directions are made anew at every step, or, where that is more work and the dictionary has at
    most 16,384 directions, brought up to date with the products of the directions with each other: then a step reads
    one row of numbers in place of the dictionary.
    """
    n_rows, n_latents = rows.shape[0], directions.shape[0]
    pays = (k - 1) * n_rows > n_latents and n_latents**2 <= _LARGEST_GRAM
    gram = directions @ directions.T if pays else None
    most = _CHUNK_NUMBERS if rows.device.type == "cpu" else _CHUNK_NUMBERS_OF_A_GPU
    chunks = torch.split(rows, max(1, most // n_latents))
    return torch.cat([_pursue(chunk, directions, gram, k) for chunk in chunks])


def pursuit_residual(
    rows: Float[Tensor, "batch d_model"],
    directions: Float[Tensor, "n_latents d_model"],
    picks: Int[Tensor, "batch k"],
) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, "batch k"]]:
    """`r_k`, differentiable in rows and directions, and every `v_t`, without a gradient."""
    found: tuple[Tensor, Tensor] = _Pursuit.apply(rows, directions, picks)  # type: ignore[no-untyped-call]
    return found


def pursuit_values(
    rows: Float[Tensor, "batch d_model"],
    directions: Float[Tensor, "n_latents d_model"],
    picks: Int[Tensor, "batch k"],
) -> Float[Tensor, "batch n_latents"]:
    """The sum of the `v_t` of each direction, differentiable step by step: for rows whose own gradient is asked."""
    z = rows.new_zeros(rows.shape[0], directions.shape[0])
    left = rows
    for pick in picks.unbind(dim=1):
        picked = directions[pick]
        value = (left * picked).sum(dim=1, keepdim=True).relu()
        z = z.scatter_add(1, pick[:, None], value) if value.requires_grad else z.scatter_add_(1, pick[:, None], value)
        left = left - value * picked
    return z


def _pursue(
    rows: Float[Tensor, "chunk d_model"],
    directions: Float[Tensor, "n_latents d_model"],
    gram: Float[Tensor, "n_latents n_latents"] | None,
    k: int,
) -> Int[Tensor, "chunk k"]:
    products = rows @ directions.T
    picks = []
    for _ in range(k - 1):
        best = products.max(dim=1)
        picks.append(best.indices)
        value = best.values.relu_()[:, None]
        if gram is None:
            rows = rows - value * directions[best.indices]
            products = rows @ directions.T
        else:
            products.addcmul_(gram[best.indices], value, value=-1)
    picks.append(products.argmax(dim=1))
    return torch.stack(picks, dim=1)


class _Pursuit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, directions: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
        left = rows.clone()
        values = rows.new_empty(picks.shape)
        for step, pick in enumerate(picks.unbind(dim=1)):
            picked = directions[pick]
            values[:, step] = (left * picked).sum(dim=1).relu()
            left.addcmul_(picked, values[:, step, None], value=-1)
        ctx.save_for_backward(directions, picks, values, left)
        ctx.mark_non_differentiable(values)
        return left, values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        directions, picks, values, left = ctx.saved_tensors
        gradient, left = gradients[0].clone(), left.clone()
        of_directions, rows_of_picks = torch.zeros_like(directions), _RowsOfPicks(picks, len(directions))
        for step in reversed(range(picks.shape[1])):
            pick, value = picks[:, step], values[:, step, None]
            picked = directions[pick]
            of_value = -(gradient * picked).sum(dim=1, keepdim=True) * (value > 0)
            left.addcmul_(picked, value)
            rows_of_picks.add_to(of_directions, step, of_value * left - value * gradient)
            gradient.addcmul_(picked, of_value)
        return gradient, of_directions, None


class _RowsOfPicks:
    """The rows of every step by the direction that they take, to add up what each direction gets of them.

    The order of a sum does not change from one call to the next. On a GPU the rows are sorted and each direction's
    follow one another; CUDA would add to the totals in memory one row after the other where directions are equal.
    """

    def __init__(self, picks: Int[Tensor, "batch k"], n_latents: int) -> None:
        self._picks, self._is_sorted = picks, picks.device.type != "cpu"
        if self._is_sorted:
            ordered, self._order = torch.sort(picks.T.contiguous(), dim=1, stable=True)
            borders = torch.arange(n_latents + 1, device=picks.device).expand(picks.shape[1], -1).contiguous()
            self._length = torch.searchsorted(ordered, borders).diff(dim=1)

    def add_to(
        self, total: Float[Tensor, "n_latents d_model"], step: int, rows: Float[Tensor, "batch d_model"]
    ) -> None:
        """`total[picks of the step] += rows`."""
        if self._is_sorted:
            rows = rows.index_select(0, self._order[step])
            # `unsafe` leaves out checks for which the host would wait.
            total += torch.segment_reduce(rows, "sum", lengths=self._length[step], axis=0, unsafe=True)
        else:
            total.index_add_(0, self._picks[:, step], rows)
