"""ReLU with an L1 penalty: a latent fires where its pre-activation is positive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Le

from hsae.sae.variants.variant import FigureStyle, SaeVariant, Setting

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.sparse_kernels import Entries
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class Relu(SaeVariant):
    """`z = relu(pre)`; the loss adds `l1_weight * sum_j z_j / sqrt(d_model)`."""

    kind = "relu"
    title = "ReLU SAE"
    style = FigureStyle(colour="C0", marker="o", control_width=1.0)
    export_code = "return pre.relu()"

    l1_coefficient: Annotated[
        float,
        Ge(0),
        Setting("weight of the L1 penalty (no unit)", option="--l1", help="L1 coefficient of a ReLU SAE."),
    ] = 0.3
    l1_warmup_share: Annotated[
        float, Ge(0), Le(1), Setting("share of the steps over which the L1 penalty rises from 0")
    ] = 0.1

    def l1_weight(self, step: int, n_steps: int) -> float:
        """A linear rise from near 0 over the warm-up share, then `l1_coefficient`."""
        rise = (step + 1) / (self.l1_warmup_share * n_steps) if self.l1_warmup_share > 0 else 1.0
        return self.l1_coefficient * min(1.0, rise)

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Where the pre-activations are positive."""
        from hsae.sae.sparse_kernels import positive_entries

        return positive_entries(pre)

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The positive part of the pre-activations."""
        return sae.pre_activations(x_scaled).relu()
