"""ReLU with an L1 penalty: a latent fires where its pre-activation is positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from hsae.sae.variants.bases.penalised import Penalised, Penalty, TargetL0
from hsae.sae.variants.variant import FigureStyle, Setting

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class Relu(Penalised):
    """The SAE of Bricken et al. (2023, "Towards Monosemanticity") and Cunningham et al. (2023, arXiv 2309.08600).

        pre   = encoder_weight @ (x_scaled - pre_bias) + encoder_bias
        z     = relu(pre)
        x_hat = decoder_weight.T @ z + pre_bias                                   (directions have unit norm)
        paper: loss = mean_b |x_b - x_hat_b|^2           + l1 * mean_b sum_j z_bj
        here:  loss = mean_b |x_b - x_hat_b|^2 / d_model + l1_weight * mean_b sum_j z_bj / sqrt(d_model)
                      + aux_coefficient * auxiliary

    `l1_weight` rises to `l1_coefficient` over `l1_warmup_share` of the steps. Dead latents return by AuxK, the loss of
    TopK SAEs (`hsae.sae.variants.topk`), where the first paper resamples them (`dead_latents: resample`).

    With `target_l0` the coefficient of the penalty is part of the state (`l1_coefficient`, a tensor) and changes during
    the training. `last_l0` is the L0 that it was last set by.
    """

    kind = "relu"
    title = "ReLU SAE"
    style = FigureStyle(colour="#0072B2", marker="o", control_width=1.0)
    export_code = "return pre.relu()"
    coefficient_setting = "l1_coefficient"

    l1_coefficient: Annotated[
        float,
        Ge(0),
        Setting("weight of the L1 penalty (no unit)", option="--l1", help="L1 coefficient of a ReLU or gated SAE."),
    ] = 0.3
    l1_warmup_share: Annotated[
        float, Ge(0), Le(1), Setting("share of the steps over which the L1 penalty rises from 0")
    ] = 0.1
    target_l0: TargetL0 = None

    def sparsity_penalty(self) -> Penalty:
        """That of the L1 norm."""
        return Penalty(self.l1_coefficient, self.l1_warmup_share, self.target_l0)

    def l1_weight(self, sae: SaeWeights, step: int, n_steps: int) -> float | Tensor:
        """The weight of the penalty."""
        return self.penalty_weight(sae, step, n_steps)

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Where the pre-activations are positive."""
        from hsae.sae.kernels.entries import positive_entries

        return positive_entries(pre)

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The positive part of the pre-activations."""
        return sae.pre_activations(x_scaled).relu()
