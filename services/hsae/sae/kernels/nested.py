"""Reconstruction losses at several granularities, for little more than the cost of one.

The firing latents of a row are in groups 0..n_groups - 1, and reconstruction g uses those of the groups up to g:

    x_hat_g = sum of z_j * d_j over the firing latents j of the groups 0..g
    loss    = sum_g weight_g * mean_b |x_b - x_hat_gb|^2 / d_model / sum_g weight_g

Every group is decoded once, as a row of its own in one sparse product; the reconstructions are the running sums.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hsae.sae.kernels.entries import Entries, decode_entries, lowest_of_equals, top_k_and_ties
from hsae.sae.kernels.selection import true_places


def nested_reconstruction(
    targets: Float[Tensor, "batch d_model"],
    entries: Entries,
    z: Float[Tensor, "n_entries"],
    directions: Float[Tensor, "n_latents d_model"],
    *,
    groups: Int[Tensor, "n_entries"],
    weights: Sequence[float],
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d_model"]]:
    """The weighted mean of the reconstruction losses, and the last residual without a gradient.

    Args:
        targets: what is reconstructed.
        entries: which latents fire.
        z: their values.
        directions: the decoder.
        groups: the group of each entry; within a row they do not fall.
        weights: the weight of every reconstruction.
    """
    n_rows, n_groups = targets.shape[0], len(weights)
    by_group = Entries(entries.rows * n_groups + groups, entries.latents, n_rows * n_groups, entries.n_latents)
    parts = decode_entries(by_group, z, directions).view(n_rows, n_groups, -1)
    scale = sum(weights) * targets.numel()
    found: tuple[Tensor, Tensor] = _NestedSquares.apply(  # type: ignore[no-untyped-call]
        targets, parts, [weight / scale for weight in weights]
    )
    return found


def ranked_entries(pre: Float[Tensor, "n_rows n_latents"], counts: Sequence[int]) -> Entries:
    """Where the largest positive entries of each row are, in falling order, as many as the last of some rising counts.

    The first ones of a row are its k largest for every k of the counts; among equals the lower latent number wins.
    """
    values, indices, straddles = top_k_and_ties(pre, counts[-1])
    ties = torch.zeros_like(straddles)
    for k in counts[:-1]:
        ties |= (values[:, k - 1] == values[:, k]) & (values[:, k] > 0)
    is_positive = values > 0
    # All numbers in one piece, so that the host waits once.
    n_positive, n_straddling, n_ties = torch.stack([is_positive.sum(), straddles.sum(), ties.sum()]).tolist()
    if n_straddling:
        indices = lowest_of_equals(pre, indices, true_places(straddles, n_straddling))
    if n_ties:
        tied = true_places(ties, n_ties)
        by_latent = indices[tied].sort(dim=1).values
        order = pre[tied].gather(1, by_latent).sort(dim=1, descending=True, stable=True).indices
        indices = indices.clone()
        indices[tied] = by_latent.gather(1, order)
    # Contiguous, as the kernels read them; columns of the pairs are not.
    rows, places = torch.nonzero_static(is_positive, size=n_positive).T.contiguous()
    return Entries(rows, indices[rows, places], *pre.shape)


def groups_of(numbers: Int[Tensor, "n"], ends: Sequence[int]) -> Int[Tensor, "n"]:
    """The group of each number below the last end: group g begins at the end of group g - 1, and 0 at 0.

    The ends are few, and compared one by one: a tensor of them would have to be brought to the device in every step.
    """
    groups = torch.zeros_like(numbers)
    for end in ends[:-1]:
        groups += numbers >= end
    return groups


def ranks(entries: Entries) -> Int[Tensor, "n_entries"]:
    """The place of each entry within its row, from 0."""
    places = torch.arange(entries.rows.shape[0], device=entries.rows.device)
    return places - entries.offsets()[entries.rows]


class _NestedSquares(torch.autograd.Function):
    """`sum_g weight_g * |target - part_0 - .. - part_g|^2`, and the last of these differences."""

    @staticmethod
    def forward(ctx: Any, targets: Tensor, parts: Tensor, weights: list[float]) -> tuple[Tensor, Tensor]:
        residuals = torch.empty_like(parts)
        total = targets.new_zeros(())
        left = targets
        for group, weight in enumerate(weights):
            left = torch.sub(left, parts[:, group], out=residuals[:, group])
            total += weight * left.square().sum()
        ctx.weights = weights
        ctx.save_for_backward(residuals)
        last = left.clone()
        ctx.mark_non_differentiable(last)
        return total, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (residuals,) = ctx.saved_tensors
        of_parts = torch.empty_like(residuals)
        after = torch.zeros_like(residuals[:, 0])
        for group in reversed(range(len(ctx.weights))):
            after = torch.add(after, residuals[:, group], alpha=-2 * ctx.weights[group], out=of_parts[:, group])
        of_parts *= gradients[0]
        return -of_parts[:, 0], of_parts, None
