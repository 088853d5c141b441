"""Gated: one path says which latents fire, another one how strongly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hsae.sae.variants.relu import Relu
from hsae.sae.variants.variant import FigureStyle

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from hsae.sae.losses import StepLosses, TrainingStep
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class Gated(Relu):
    """The gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014, equations 5 to 8).

        gate      = W_gate (x - pre_bias) + b_gate                              encoder_weight, encoder_bias: `pre`
        magnitude = exp(r_mag) * (W_gate (x - pre_bias)) + b_mag                log_magnitude_scale, magnitude_bias
        z         = H(gate) * relu(magnitude)
        loss      = |x - D z - pre_bias|^2 / d_model
                    + l1_weight * sum_j relu(gate_j) / sqrt(d_model)
                    + |x - sg(D) relu(gate) - sg(pre_bias)|^2 / d_model         sg: no gradient reaches it

    each a mean over the batch; H is the unit step, which has no gradient. The weights of the two paths are tied by
    `r_mag`. Settings, penalty and target L0 are those of a ReLU SAE. `reconstruction` of the step's losses is the first
    term; the third one is in the total alone.

    Ours: the gate's bias starts where `initial_l0` latents fire on a row, as in all kinds, and b_mag at the same value
    (r_mag at 0), so that the SAE starts as a ReLU SAE. With the paper's b_mag of 0 the first reconstructions are far
    too long. Dead latents return by the auxiliary loss, through the gate, where the paper resamples them.
    """

    kind = "gated"
    title = "Gated SAE"
    style = FigureStyle(colour="#999933", marker="h", control_width=1.4)
    export_code = """\
magnitude = sae["log_magnitude_scale"].exp() * (pre - sae["encoder_bias"]) + sae["magnitude_bias"]
return magnitude.relu() * (pre > 0)"""

    def own_parameters(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """What the magnitude's path has of its own: r_mag and b_mag of the paper."""
        return {"log_magnitude_scale": (n_latents,), "magnitude_bias": (n_latents,)}

    def initialise(self, sae: SaeWeights) -> None:
        """Magnitudes start as those of a ReLU SAE."""
        super().initialise(sae)
        sae.get_parameter("magnitude_bias").copy_(sae.encoder_bias)

    def resampled(self, sae: SaeWeights, latents: Int[Tensor, "n"]) -> None:
        """The magnitude is again that of the gate, as at the start."""
        sae.get_parameter("log_magnitude_scale")[latents] = 0.0
        sae.get_parameter("magnitude_bias")[latents] = 0.0

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The positive magnitudes behind open gates."""
        gate = sae.pre_activations(x_scaled)
        scale = sae.get_parameter("log_magnitude_scale").exp()
        magnitude = scale * (gate - sae.encoder_bias) + sae.get_parameter("magnitude_bias")
        return magnitude.relu() * (gate > 0)

    def losses(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"], at: TrainingStep) -> StepLosses:
        """The losses above and the auxiliary one; products touch open gates only."""
        import torch

        from hsae.sae.kernels.encoder_product import encoder_product
        from hsae.sae.kernels.entries import decode_entries, positive_entries, with_encoder_gradient
        from hsae.sae.losses import (
            StepLosses,
            bias_with_pre_bias_gradient,
            dead_latents_loss,
            fired_latents,
            whole_reconstruction,
        )

        centred = (x_scaled - sae.pre_bias).detach()
        n_rows, d_model = x_scaled.shape
        with torch.no_grad():
            pre = encoder_product(centred, sae.encoder_weight, sae.encoder_bias)
            open_gates = positive_entries(pre)
            values = pre[open_gates.rows, open_gates.latents]
        latents = open_gates.latents
        # One product gives both paths their gradient towards the weights they share: that of the gate.
        bias = bias_with_pre_bias_gradient(sae)
        gate = with_encoder_gradient(centred, sae.encoder_weight, bias, open_gates, values)
        scale = sae.get_parameter("log_magnitude_scale").exp().index_select(0, latents)
        own_bias = sae.encoder_bias.index_select(0, latents)
        magnitude = scale * (gate - own_bias) + sae.get_parameter("magnitude_bias").index_select(0, latents)
        z = magnitude.relu()
        reconstruction, residual = whole_reconstruction(sae, x_scaled, open_gates, z)
        by_gate = decode_entries(open_gates, gate, sae.decoder_weight.detach()) + sae.pre_bias.detach()
        of_gate = (x_scaled - by_gate).square().sum() / (n_rows * d_model)
        sparsity = gate.sum() / (n_rows * d_model**0.5)
        initial_l0 = self.initial_l0(sae.n_latents)
        auxiliary = dead_latents_loss(sae, centred, pre, residual, at, initial_l0=initial_l0)
        weight = self.penalty_weight(sae, at.step, at.n_steps)
        total = reconstruction + weight * sparsity + of_gate + at.aux_coefficient * auxiliary
        fired = fired_latents(latents, z.detach(), sae.n_latents)
        return StepLosses(total, reconstruction.detach(), sparsity.detach(), auxiliary.detach(), fired)
