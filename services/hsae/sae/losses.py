"""The losses of one training step that the kinds share, all of them free of units.

In scaled space a centred row has the length sqrt(d_model) on average, so dividing by d_model (squares) and by
sqrt(d_model) (lengths) makes every term of order 1 whatever the backbone and the layer.

    reconstruction = mean_b |x_b - x_hat_b|^2 / d_model
    sparsity       = mean_b sum_j |z_bj| / sqrt(d_model)                      (the decoder's directions have unit norm)
    auxiliary      = sum_b |e_b - e_hat_b|^2 / sum_b |e_b|^2,  e = x - x_hat without a gradient, 0 without dead latents
    total          = reconstruction + l1_weight * sparsity + aux_coefficient * auxiliary
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hsae.sae.kernels.devices import ways
from hsae.sae.kernels.encoder_product import encoder_product
from hsae.sae.kernels.entries import (
    Entries,
    all_top_k_entries,
    decode_entries,
    top_k_entries,
    with_encoder_gradient,
)
from hsae.sae.weights import SaeWeights

# A residual below this share of the rows' own size is rounding: nothing for dead latents to learn.
_RESIDUAL_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Where the training stands, for the losses of one step.

    Attributes:
        step: steps done.
        n_steps: steps of the whole training.
        aux_coefficient: weight of the auxiliary loss.
        k_aux: dead latents that reconstruct the residual of a row.
        dead: bool[n_latents], the latents that the auxiliary loss may use.
        n_dead: how many they are, so that nobody must ask the device.
        prepared: what `SaeVariant.prepare_batch` said of this part of the batch; None: the part is the whole batch.
    """

    step: int
    n_steps: int
    aux_coefficient: float
    k_aux: int
    dead: Bool[Tensor, "n_latents"]
    n_dead: int
    prepared: Any = None


@dataclass(frozen=True, slots=True)
class StepLosses:
    """The losses of one step.

    Attributes:
        total: a scalar with a gradient.
        reconstruction: a scalar without a gradient, like the two that follow.
        sparsity: the mean penalty of a row, without its weight: the L1 norm, unless the kind has another one.
        auxiliary: the auxiliary loss, without its weight.
        fired: bool[n_latents], which latents fired on the batch.
        note: a scalar that the kind's `after_step` gets (`StepDone.notes`); None: it needs none.
    """

    total: Tensor
    reconstruction: Tensor
    sparsity: Tensor
    auxiliary: Tensor
    fired: Bool[Tensor, "n_latents"]
    note: Tensor | None = None


class LinearEncoder(NamedTuple):
    """An encoder before its nonlinearity: `inputs @ weight.T + bias`.

    Attributes:
        inputs: float32[batch, d_model], without a gradient.
        weight: float32[n_latents, d_model].
        bias: float32[n_latents].
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor


def whole_reconstruction(
    sae: SaeWeights,
    x_scaled: Float[Tensor, "batch d_model"],
    entries: Entries,
    z: Float[Tensor, "n_entries"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d_model"]]:
    """The reconstruction loss of all firing latents together, and the residual without a gradient.

    Args:
        sae: the weights.
        x_scaled: rows in scaled space.
        entries: which latents fire.
        z: their values.
    """
    residual = x_scaled - decode_entries(entries, z, sae.decoder_weight) - sae.pre_bias
    return residual.square().sum() / residual.numel(), residual.detach()


def sparse_losses(
    sae: SaeWeights,
    x_scaled: Float[Tensor, "batch d_model"],
    at: TrainingStep,
    *,
    firing: Callable[[Float[Tensor, "batch n_latents"]], Entries],
    l1_weight: float | Tensor,
    initial_l0: int,
    reconstruct: Callable[..., tuple[Tensor, Tensor]] = whole_reconstruction,
) -> StepLosses:
    """The losses of the module's docstring, for a kind whose latents are 0 or their pre-activation.

    Args:
        sae: the weights.
        x_scaled: rows in scaled space.
        at: where the training stands.
        firing: which latents fire, given the pre-activations.
        l1_weight: weight of the L1 penalty.
        initial_l0: how many latents fired on a row before the first step.
        reconstruct: the reconstruction loss and the residual; arguments as of `whole_reconstruction`.
    """
    centred = (x_scaled - sae.pre_bias).detach()
    bias = bias_with_pre_bias_gradient(sae)
    with torch.no_grad():
        pre = encoder_product(centred, sae.encoder_weight, sae.encoder_bias)
        entries = firing(pre)
    z = with_encoder_gradient(centred, sae.encoder_weight, bias, entries, pre[entries.rows, entries.latents])
    reconstruction, residual = reconstruct(sae, x_scaled, entries, z)
    sparsity = z.sum() / (x_scaled.shape[0] * sae.d_model**0.5)
    auxiliary = dead_latents_loss(sae, centred, pre, residual, at, initial_l0=initial_l0)
    total = reconstruction + l1_weight * sparsity + at.aux_coefficient * auxiliary
    fired = torch.zeros_like(at.dead).index_fill_(0, entries.latents, True)
    return StepLosses(total, reconstruction.detach(), sparsity.detach(), auxiliary.detach(), fired)


def fired_latents(
    latents: Int[Tensor, "*entries"], values: Float[Tensor, "*entries"], n_latents: int
) -> Bool[Tensor, "n_latents"]:
    """Whether a latent has a value above 0 at any entry; nothing is counted, for which CUDA would add one by one."""
    place = torch.where(values > 0, latents, n_latents).flatten()  # those that do not fire share a place of their own
    fired = torch.zeros(n_latents + 1, dtype=torch.bool, device=values.device)
    return fired.index_fill_(0, place, True)[:n_latents]


def bias_with_pre_bias_gradient(sae: SaeWeights) -> Float[Tensor, "n_latents"]:
    """The encoder bias, with a gradient that also reaches `pre_bias`.

    The gradient is that of `x_scaled - pre_bias`, for one product with a vector instead of one with the batch.
    """
    zero = sae.pre_bias - sae.pre_bias.detach()
    return sae.encoder_bias - sae.encoder_weight.detach() @ zero


def dead_latents_loss(
    sae: SaeWeights,
    centred: Float[Tensor, "batch d_model"],
    pre: Float[Tensor, "batch n_latents"],
    residual: Float[Tensor, "batch d_model"],
    at: TrainingStep,
    *,
    initial_l0: int,
) -> Float[Tensor, ""]:
    """The auxiliary loss of a batch without its weight; 0 where no latent is dead, or the loss is off.

    Args:
        sae: the weights.
        centred: rows in scaled space without `pre_bias`, without a gradient.
        pre: their pre-activations, without a gradient.
        residual: what is left of the rows, without a gradient.
        at: where the training stands.
        initial_l0: how many latents fired on a row before the first step.
    """
    if not at.aux_coefficient > 0 or at.n_dead == 0:
        return residual.new_zeros(())
    dead_latents = torch.nonzero_static(at.dead, size=at.n_dead).flatten()
    excitement = pre[:, dead_latents]
    excitement = excitement - lift(excitement, initial_l0 / sae.n_latents)
    encoder = LinearEncoder(centred, sae.encoder_weight, sae.encoder_bias)
    return auxiliary_loss(encoder, sae.decoder_weight, excitement, residual, dead_latents, at.k_aux)


def auxiliary_loss(
    encoder: LinearEncoder,
    decoder_weight: Float[Tensor, "n_latents d_model"],
    excitement: Float[Tensor, "batch n_dead"],
    residual: Float[Tensor, "batch d_model"],
    dead_latents: Int[Tensor, "n_dead"],
    k_aux: int,
) -> Float[Tensor, ""]:
    """How badly the k_aux most excited dead latents of each row reconstruct the residual of the live ones.

    This is AuxK (Gao et al. 2024, section 2.4 and appendix A.2). Ours: every dead latent is first lifted so far that it
    fires on as many rows of the batch as it did before the first step. A dead ReLU latent is negative on every row and
    would otherwise get no gradient; dead TopK latents often are, too.

    Args:
        encoder: what made the excitement.
        decoder_weight: the directions.
        excitement: pre-activations of the dead latents, lifted, without a gradient.
        residual: what is left of the rows, without a gradient.
        dead_latents: their numbers.
        k_aux: how many of them reconstruct a row.
    """
    k, asks = min(k_aux, dead_latents.shape[0]), ways(excitement.device).counts_are_cheap
    # Only their positive entries count. Where the host would wait to know how many these are, all k stay, as zeros.
    picked = top_k_entries(excitement, k) if asks else all_top_k_entries(excitement, k)
    values = excitement[picked.rows, picked.latents]
    entries = Entries(picked.rows, dead_latents[picked.latents], residual.shape[0], decoder_weight.shape[0])
    z = with_encoder_gradient(*encoder, entries, values)
    if not asks:
        z = z * (values > 0)
    error = residual - decode_entries(entries, z, decoder_weight)
    energy = residual.square().sum().clamp_min(_RESIDUAL_FLOOR * residual.numel())
    return error.square().sum() / energy


def lift(excitement: Float[Tensor, "batch n_dead"], firing_share: float) -> Float[Tensor, "n_dead"]:
    """What to subtract from every latent so that it is positive on `firing_share` of the rows, at least on one."""
    n_rows = excitement.shape[0]
    n_firing = min(max(1, round(firing_share * n_rows)), n_rows - 1)
    if n_firing == 0:
        return excitement.min(dim=0).values - 1.0
    return excitement.topk(n_firing + 1, dim=0).values[-1]
