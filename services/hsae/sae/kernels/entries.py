"""The matrix products of an SAE without the zeros of its latents.

A row has tens of positive latents out of thousands. The decoder and three of the four products of the backward pass
need only those, and on the CPU they go through `embedding_bag`, which is 5 to 10 times as fast as the dense products
(batches of 128..1024, d_model 192..768, 16..32 latents a row). Where more than one entry in twenty is positive, and on
other devices, the dense products are used: there they are fast and, unlike scattered additions, deterministic.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

_DENSE_FROM_SHARE = 1 / 20


@dataclass(frozen=True, slots=True)
class Entries:
    """Some entries of a matrix [n_rows, n_latents], sorted by row, without duplicates.

    Attributes:
        rows: int64[n_entries], the row of each entry.
        latents: int64[n_entries], the column of each entry.
        n_rows: number of rows of the matrix.
        n_latents: number of its columns.
    """

    rows: Int[Tensor, "n_entries"]
    latents: Int[Tensor, "n_entries"]
    n_rows: int
    n_latents: int

    @property
    def dense_is_faster(self) -> bool:
        """Whether products should go through the dense matrix."""
        many = self.rows.shape[0] > _DENSE_FROM_SHARE * self.n_rows * self.n_latents
        return many or self.rows.device.type != "cpu"

    def offsets(self) -> Int[Tensor, "n_rows"]:
        """Where the entries of each row begin."""
        counts = torch.bincount(self.rows, minlength=self.n_rows)
        return counts.cumsum(0) - counts

    def to_dense(self, values: Float[Tensor, "n_entries"]) -> Float[Tensor, "n_rows n_latents"]:
        """The matrix with `values` at the entries and zeros elsewhere."""
        dense = values.new_zeros(self.n_rows * self.n_latents)
        return dense.index_copy(0, self.rows * self.n_latents + self.latents, values).view(self.n_rows, self.n_latents)


def positive_entries(pre: Float[Tensor, "n_rows n_latents"]) -> Entries:
    """Where a matrix is above 0."""
    rows, latents = torch.nonzero(pre > 0, as_tuple=True)
    return Entries(rows, latents, *pre.shape)


def top_k_entries(pre: Float[Tensor, "n_rows n_latents"], k: int) -> Entries:
    """Where the k largest entries of each row are, as far as they are above 0."""
    indices = top_k_indices(pre, k)
    rows, places = torch.nonzero(pre.gather(1, indices) > 0, as_tuple=True)
    return Entries(rows, indices[rows, places], *pre.shape)


def top_k_indices(pre: Float[Tensor, "n_rows n_latents"], k: int) -> Int[Tensor, "n_rows k"]:
    """The k largest entries of every row, the largest first; among equal ones above 0 the lower latent number wins."""
    n_latents = pre.shape[1]
    # One entry more than asked for shows whether equal values straddle the border, where topk may take any of them.
    values, indices = pre.topk(min(k + 1, n_latents), dim=1)
    if k >= n_latents:
        return indices
    straddles = (values[:, k - 1] == values[:, k]) & (values[:, k] > 0)
    indices = indices[:, :k]
    if bool(straddles.any()):
        by_value = torch.sort(pre[straddles], dim=1, descending=True, stable=True).indices
        indices = indices.clone()
        indices[straddles] = by_value[:, :k]
    return indices


def with_encoder_gradient(
    inputs: Float[Tensor, "n_rows d_model"],
    weight: Float[Tensor, "n_latents d_model"],
    bias: Float[Tensor, "n_latents"],
    entries: Entries,
    values: Float[Tensor, "n_entries"],
) -> Float[Tensor, "n_entries"]:
    """`values` with the gradient of `(inputs @ weight.T + bias)` at the entries, towards weight and bias.

    values: those numbers, computed without a gradient (a constant may have been added to a latent).
    """
    tracked: Tensor = _EncoderGradient.apply(inputs, weight, bias, entries, values)  # type: ignore[no-untyped-call]
    return tracked


def decode_entries(
    entries: Entries, values: Float[Tensor, "n_entries"], weight: Float[Tensor, "n_latents d_model"]
) -> Float[Tensor, "n_rows d_model"]:
    """`entries.to_dense(values) @ weight`, differentiable in values and weight."""
    if entries.dense_is_faster:
        return entries.to_dense(values) @ weight
    return F.embedding_bag(entries.latents, weight, entries.offsets(), per_sample_weights=values, mode="sum")


class _EncoderGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, entries: Entries, values: Tensor) -> Tensor:
        ctx.entries = entries
        ctx.save_for_backward(inputs)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (inputs,) = ctx.saved_tensors
        entries: Entries = ctx.entries
        if entries.dense_is_faster:
            dense = entries.to_dense(gradient)
            return None, dense.T @ inputs, dense.sum(dim=0), None, None
        bias_gradient = gradient.new_zeros(entries.n_latents).index_add_(0, entries.latents, gradient)
        return None, _outer_sums(entries, gradient, inputs), bias_gradient, None, None


def _outer_sums(
    entries: Entries, values: Float[Tensor, "n_entries"], inputs: Float[Tensor, "n_rows d_model"]
) -> Float[Tensor, "n_latents d_model"]:
    """`entries.to_dense(values).T @ inputs`: what embedding_bag computes as the gradient of its weight."""
    with torch.enable_grad():
        weight = inputs.new_zeros(entries.n_latents, inputs.shape[1], requires_grad=True)
        (gradient,) = torch.autograd.grad(decode_entries(entries, values.detach(), weight), weight, inputs)
    return gradient
