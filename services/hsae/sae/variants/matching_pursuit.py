"""Matching pursuit: latents are chosen one after the other (MP-SAE, Costa et al. 2025, arXiv 2506.03093)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hsae.sae.variants.topk import FiringPerRow
from hsae.sae.variants.variant import FigureStyle, SaeVariant, StepDone

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from hsae.sae.losses import StepLosses, TrainingStep
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class MatchingPursuit(SaeVariant):
    """Each of k steps takes the latent whose direction points most along what is left of the row.

    The equations of MP-SAE (arXiv 2506.03093, section 4), with directions `d_j` of unit norm that encode and decode:

        r_0 = x - pre_bias,  z = 0
        for t = 1 .. k:
            j    = argmax_j d_j . r_{t-1}
            v    = d_j . r_{t-1}
            z_j += v
            r_t  = r_{t-1} - v * d_j
        x_hat = decoder_weight.T @ z + pre_bias,  so x - x_hat = r_k
        loss  = |r_k|^2

    The gradient goes through all steps, but for the choice of j. Ours, where the paper is silent: `v` is at least 0, so
    that z is; a row along no direction takes none. Among equals the lower latent is taken. A latent may be taken
    again, and fewer than k may fire. Dead latents learn from the auxiliary loss, in which they are excited by the
    residual `r_k` and not by the row. `encoder_weight` is a copy of the directions and `encoder_bias` is 0, so that
    `pre_activations` are the products of the first step.
    """

    kind = "matching_pursuit"
    title = "Matching-pursuit SAE"
    style = FigureStyle(colour="#882255", marker="*", control_width=1.8)
    export_code = """\
latents, left = torch.zeros_like(pre), x.float() * sae["input_scale"] - sae["pre_bias"]
for _ in range(config["k"]):
    best = (left @ sae["decoder_weight"].T).relu().max(-1)
    latents.scatter_add_(-1, best.indices[:, None], best.values[:, None])
    left = left - best.values[:, None] * sae["decoder_weight"][best.indices]
return latents"""

    narrow_products = False  # every step takes the residual of the one before, and rounding would add up

    k: FiringPerRow = 32

    def latent_counts(self) -> Mapping[str, int]:
        """More steps than latents are a mistake."""
        return {"k": self.k}

    def initial_l0(self, n_latents: int) -> int:
        """As many as after the last step: one a step."""
        return self.k

    def initialise(self, sae: SaeWeights) -> None:
        """No latent has a bias."""
        sae.encoder_bias.zero_()

    def before_step(self, sae: SaeWeights) -> None:
        """The encoder follows the directions: it gets no gradient of its own."""
        super().before_step(sae)
        for parameter in (sae.encoder_weight, sae.encoder_bias):
            parameter.grad = parameter.new_zeros(parameter.shape)

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Directions get unit norm, and the encoder is made equal to them."""
        super().after_step(sae, done)
        sae.encoder_weight.copy_(sae.decoder_weight)

    def resampled(self, sae: SaeWeights, latents: Int[Tensor, "n"]) -> None:
        """The encoder follows the new directions."""
        sae.encoder_weight[latents] = sae.decoder_weight[latents]

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """Of each latent the sum over the steps that take it."""
        from hsae.sae.kernels.pursuit import pursue, pursuit_values

        centred = x_scaled - sae.pre_bias
        return pursuit_values(centred, sae.decoder_weight, pursue(centred, sae.decoder_weight, self.k))

    def losses(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"], at: TrainingStep) -> StepLosses:
        """The loss of the last residual, with the auxiliary loss."""
        import torch

        from hsae.sae.kernels.pursuit import pursue, pursuit_residual
        from hsae.sae.losses import LinearEncoder, StepLosses, auxiliary_loss, fired_latents, lift

        centred = x_scaled - sae.pre_bias
        picks = pursue(centred, sae.decoder_weight, self.k)
        residual, values = pursuit_residual(centred, sae.decoder_weight, picks)
        reconstruction = residual.square().sum() / residual.numel()
        sparsity = values.sum() / (residual.shape[0] * sae.d_model**0.5)
        auxiliary = torch.zeros_like(reconstruction)
        if at.aux_coefficient > 0 and at.n_dead > 0:
            dead = torch.nonzero_static(at.dead, size=at.n_dead).flatten()
            left = residual.detach()
            excitement = left @ sae.decoder_weight.detach()[dead].T
            excitement -= lift(excitement, self.initial_l0(sae.n_latents) / sae.n_latents)
            encoder = LinearEncoder(left, sae.decoder_weight, torch.zeros_like(sae.encoder_bias))
            auxiliary = auxiliary_loss(encoder, sae.decoder_weight, excitement, left, dead, at.k_aux)
        total = reconstruction + at.aux_coefficient * auxiliary
        fired = fired_latents(picks, values, sae.n_latents)
        return StepLosses(total, reconstruction.detach(), sparsity, auxiliary.detach(), fired)
