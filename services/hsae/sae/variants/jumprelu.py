"""JumpReLU: a latent fires where its pre-activation is above a threshold that is learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le

from hsae.sae.variants.bases.penalised import Penalised, Penalty, TargetL0
from hsae.sae.variants.variant import FigureStyle, Setting

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

    from hsae.sae.losses import StepLosses, TrainingStep
    from hsae.sae.weights import SaeWeights

_TANH_SCALE = 4.0
_FIRST_THRESHOLD = 0.5
_SPEED = 10


@dataclass(frozen=True)
class JumpRelu(Penalised):
    """JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435, equations 4, 9, 11 and 12).

        z            = pre * H(pre - threshold),  threshold = exp(10 * tenth_log_threshold) of each latent
        loss         = reconstruction + l0_coefficient * penalty
        penalty l0   = mean_b sum_j H(pre_bj - threshold_j)
        penalty tanh = mean_b sum_j tanh(4 * z_bj)          (the decoder's directions have unit norm)

    H is the unit step; thresholds get the pseudo-derivatives of `hsae.sae.kernels.jump`, all else ordinary ones. So the
    L0 penalty moves thresholds alone, and the tanh penalty encoder and thresholds. The tanh penalty and its scale of 4
    are Anthropic's (Circuits Updates of January 2025, "Dictionary Learning Optimization Techniques"), with rows of the
    length sqrt(d_model) as here.

    As reconstruction is divided by d_model, the coefficient is the paper's own for rows of unit length, and Anthropic's
    divided by d_model.

    Ours: a negative pre-activation is never near a threshold (the paper has a ReLU before the jump to the same end).
    Thresholds start at 0.5, with biases at which `initial_l0` latents fire on a row: the SAE starts neither dense nor,
    without the biases, with reconstructions that are far too long. Thresholds at the biases' place and biases of 0 gave
    twice the held-out FVU. Adam moves the logarithm of a threshold ten times as fast as a weight, 1 % a step: at a
    weight's speed a training of 1,000 steps missed a target L0 by a quarter. The bandwidth is wider than the paper's
    0.001 * sqrt(d_model), for batches of fewer than its 4,096 rows. Dead latents return by the auxiliary loss; there is
    no pre-activation loss.
    """

    kind = "jumprelu"
    title = "JumpReLU SAE"
    style = FigureStyle(colour="#332288", marker=">", control_width=1.4)
    export_code = 'return pre * (pre > (10 * sae["tenth_log_threshold"]).exp())'
    coefficient_setting = "l0_coefficient"

    l0_coefficient: Annotated[
        float,
        Ge(0),
        Setting(
            "weight of the penalty on firing latents (no unit)",
            option="--l0-coefficient",
            help="Coefficient of a JumpReLU SAE's penalty on firing latents.",
        ),
    ] = 0.001
    l0_warmup_share: Annotated[
        float, Ge(0), Le(1), Setting("share of the steps over which that penalty rises from 0")
    ] = 0.1
    target_l0: TargetL0 = None
    penalty: Annotated[
        Literal["l0", "tanh"],
        Setting(
            "what is penalised: the number of firing latents, or the sum of their tanh(4 z)",
            option="--penalty",
            help="Penalty of a JumpReLU SAE: l0, or tanh of the latents.  [default: l0]",
        ),
    ] = "l0"
    bandwidth: Annotated[
        float, Gt(0), Setting("width of the window around a threshold that its gradient comes from, scaled space")
    ] = 1.0

    def sparsity_penalty(self) -> Penalty:
        """That of the number of firing latents."""
        return Penalty(self.l0_coefficient, self.l0_warmup_share, self.target_l0)

    def own_parameters(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """A tenth of the logarithms of the thresholds."""
        return {"tenth_log_threshold": (n_latents,)}

    def initialise(self, sae: SaeWeights) -> None:
        """Thresholds are small; the biases make up for them, so that the same latents fire."""
        super().initialise(sae)
        sae.get_parameter("tenth_log_threshold").fill_(math.log(_FIRST_THRESHOLD) / _SPEED)
        sae.encoder_bias.add_(_FIRST_THRESHOLD)

    def resampled(self, sae: SaeWeights, latents: Int[Tensor, "n"]) -> None:
        """Their thresholds are again those of the start."""
        sae.get_parameter("tenth_log_threshold")[latents] = math.log(_FIRST_THRESHOLD) / _SPEED

    def thresholds(self, sae: SaeWeights) -> Float[Tensor, "n_latents"]:
        """What a pre-activation must exceed, of each latent, in scaled space; with a gradient."""
        return (_SPEED * sae.get_parameter("tenth_log_threshold")).exp()

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The pre-activations above the thresholds."""
        pre = sae.pre_activations(x_scaled)
        return pre * (pre > self.thresholds(sae))

    def losses(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"], at: TrainingStep) -> StepLosses:
        """The losses above and the auxiliary one; no product touches an entry far below its threshold."""
        import torch

        from hsae.sae.kernels.devices import ways
        from hsae.sae.kernels.encoder_product import encoder_product
        from hsae.sae.kernels.entries import Entries, entries_where, with_encoder_gradient
        from hsae.sae.kernels.jump import jump_relu, step
        from hsae.sae.kernels.selection import true_places
        from hsae.sae.losses import StepLosses, bias_with_pre_bias_gradient, dead_latents_loss, whole_reconstruction

        centred = (x_scaled - sae.pre_bias).detach()
        thresholds = self.thresholds(sae)
        with torch.no_grad():
            pre = encoder_product(centred, sae.encoder_weight, sae.encoder_bias)
            # Entries that fire, and those whose threshold feels them: all others have neither value nor gradient.
            is_near = pre > (thresholds - self.bandwidth / 2).clamp_min(0)
            n_near = n_firing = None
            if not ways(pre.device).counts_are_cheap:  # both numbers in one piece, so that the host waits once
                n_near, n_firing = torch.stack([is_near.sum(), (pre > thresholds).sum()]).tolist()
            near = entries_where(is_near, n_near)
            rows, latents = near.rows, near.latents
            values = pre[rows, latents]
            fires = true_places(values > thresholds[latents], n_firing)  # whatever fires is near
            firing = Entries(rows[fires], latents[fires], *pre.shape)
        bias = bias_with_pre_bias_gradient(sae)
        above = with_encoder_gradient(centred, sae.encoder_weight, bias, firing, values[fires])
        values = values.index_copy(0, fires, above)
        threshold = thresholds.index_select(0, latents)
        z = jump_relu(values, threshold, self.bandwidth)
        reconstruction, residual = whole_reconstruction(sae, x_scaled, near, z)
        of_entries = step(values, threshold, self.bandwidth) if self.penalty == "l0" else (_TANH_SCALE * z).tanh()
        sparsity = of_entries.sum() / x_scaled.shape[0]
        initial_l0 = self.initial_l0(sae.n_latents)
        auxiliary = dead_latents_loss(sae, centred, pre, residual, at, initial_l0=initial_l0)
        weight = self.penalty_weight(sae, at.step, at.n_steps)
        total = reconstruction + weight * sparsity + at.aux_coefficient * auxiliary
        fired = torch.zeros_like(at.dead).index_fill_(0, firing.latents, True)
        return StepLosses(total, reconstruction.detach(), sparsity.detach(), auxiliary.detach(), fired)
