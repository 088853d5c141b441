"""The matrix products of an SAE without the zeros of its latents.

A row has tens of positive latents out of thousands. The decoder and three of the four products of the backward pass
need only those. On the CPU that is 5 to 10 times as fast as the dense products (batches of 128..1024, d_model 192..768,
16..32 latents a row). Dense products are used where more than one entry in twenty is positive, and on devices without
a sparse one (`hsae.sae.kernels.devices`).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hsae.sae.kernels.devices import ways
from hsae.sae.kernels.products import Bags, plain_sums, weighted_sums
from hsae.sae.kernels.selection import largest_of_rows, true_places

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
    _by_latent: list[tuple[Int[Tensor, "n_entries"], Bags]] = field(
        default_factory=list, init=False, repr=False, compare=False
    )

    @property
    def dense_is_faster(self) -> bool:
        """Whether products should go through the dense matrix."""
        many = self.rows.shape[0] > _DENSE_FROM_SHARE * self.n_rows * self.n_latents
        return many or ways(self.rows.device).sparse_product == "none"

    def offsets(self) -> Int[Tensor, "n_rows"]:
        """Where the entries of each row begin."""
        return _first_places(self.rows, self.n_rows)

    def by_row(self) -> Bags:
        """The entries as they are: an output is a row, made from rows of a table of latents."""
        return Bags(self.rows, self.offsets(), self.latents, uneven=False)

    def by_latent(self) -> tuple[Int[Tensor, "n_entries"], Bags]:
        """The order that sorts the entries by latent, and the entries in it."""
        if not self._by_latent:
            # Torch's own gradient of embedding_bag sorts the same way: its sums have the same order, and the same bits.
            latents, order = torch.sort(self.latents)
            bags = Bags(latents, _first_places(latents, self.n_latents), self.rows[order], uneven=True)
            self._by_latent.append((order, bags))
        return self._by_latent[0]

    def to_dense(self, values: Float[Tensor, "n_entries"]) -> Float[Tensor, "n_rows n_latents"]:
        """The matrix with `values` at the entries and zeros elsewhere."""
        dense = values.new_zeros(self.n_rows * self.n_latents)
        return dense.index_copy(0, self.rows * self.n_latents + self.latents, values).view(self.n_rows, self.n_latents)


def positive_entries(pre: Float[Tensor, "n_rows n_latents"]) -> Entries:
    """Where a matrix is above 0."""
    return entries_where(pre > 0)


def entries_where(mask: Bool[Tensor, "n_rows n_latents"], n_true: int | None = None) -> Entries:
    """Where a mask is true; `n_true` as of `true_places`."""
    places = true_places(mask, n_true)
    rows = places // mask.shape[1]
    return Entries(rows, places - rows * mask.shape[1], *mask.shape)


def top_k_entries(pre: Float[Tensor, "n_rows n_latents"], k: int) -> Entries:
    """Where the k largest entries of each row are, as far as they are above 0."""
    if ways(pre.device).counts_are_cheap:
        values, indices = _top_k(pre, k)
        rows, places = torch.nonzero(values > 0, as_tuple=True)
    else:
        values, indices, straddles = top_k_and_ties(pre, k)
        is_positive = values > 0
        # Both numbers in one piece, so that the host waits once.
        n_positive, n_straddling = torch.stack([is_positive.sum(), straddles.sum()]).tolist()
        if n_straddling:
            indices = lowest_of_equals(pre, indices, true_places(straddles, n_straddling))
        # Contiguous, as the kernels read them; columns of the pairs are not.
        rows, places = torch.nonzero_static(is_positive, size=n_positive).T.contiguous()
    return Entries(rows, indices[rows, places], *pre.shape)


def all_top_k_entries(pre: Float[Tensor, "n_rows n_latents"], k: int) -> Entries:
    """Where the k largest entries of each row are, also those that are not above 0; equal ones in any order."""
    indices = pre.topk(k, dim=1, sorted=False).indices.sort(dim=1).values
    rows = torch.arange(pre.shape[0], device=pre.device)[:, None].expand(-1, k)
    return Entries(rows.flatten(), indices.flatten(), *pre.shape)


def _top_k(pre: Float[Tensor, "n_rows n_latents"], k: int) -> tuple[Float[Tensor, "n_rows k"], Int[Tensor, "n_rows k"]]:
    """Values and latents of the k largest entries of every row."""
    values, indices, straddles = top_k_and_ties(pre, k)
    return values, lowest_of_equals(pre, indices, true_places(straddles)) if bool(straddles.any()) else indices


def top_k_and_ties(
    pre: Float[Tensor, "n_rows n_latents"], k: int
) -> tuple[Float[Tensor, "n_rows k"], Int[Tensor, "n_rows k"], Bool[Tensor, "n_rows"]]:
    """Values and latents of the k largest entries of every row, the largest first, and the rows with ties.

    In these rows equal values above 0 straddle the border, and topk may have taken any of them: see `lowest_of_equals`.
    """
    n_latents = pre.shape[1]
    # One entry more than asked for shows it.
    values, indices = largest_of_rows(pre, min(k + 1, n_latents))
    if k >= n_latents:
        return values, indices, torch.zeros(pre.shape[0], dtype=torch.bool, device=pre.device)
    straddles = (values[:, k - 1] == values[:, k]) & (values[:, k] > 0)
    return values[:, :k], indices[:, :k], straddles


def lowest_of_equals(
    pre: Float[Tensor, "n_rows n_latents"], indices: Int[Tensor, "n_rows k"], rows: Int[Tensor, "n"]
) -> Int[Tensor, "n_rows k"]:
    """The k largest latents of every row, in some rows chosen anew: the lower ones of equals, in falling order."""
    by_value = torch.sort(pre[rows], dim=1, descending=True, stable=True).indices
    indices = indices.clone()
    indices[rows] = by_value[:, : indices.shape[1]]
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
    decoded = weighted_sums(entries.by_row(), values, weight)
    tracked: Tensor = _DecoderGradient.apply(decoded, weight, entries, values.detach())  # type: ignore[no-untyped-call]
    return tracked


class _DecoderGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, decoded: Tensor, weight: Tensor, entries: Entries, values: Tensor) -> Tensor:
        ctx.entries = entries
        ctx.save_for_backward(values)
        return decoded.view_as(decoded)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (values,) = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return gradient, None, None, None
        order, bags = ctx.entries.by_latent()
        return gradient, weighted_sums(bags, values[order], gradient), None, None


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
        order, bags = entries.by_latent()
        of_weight = weighted_sums(bags, gradient[order], inputs)
        return None, of_weight, plain_sums(entries.latents, gradient, order, bags), None, None


def _first_places(ascending: Int[Tensor, "n"], n_numbers: int) -> Int[Tensor, "m"]:
    """Where each of the numbers 0 .. n_numbers - 1 begins among ascending ones."""
    return torch.searchsorted(ascending, torch.arange(n_numbers, device=ascending.device))
