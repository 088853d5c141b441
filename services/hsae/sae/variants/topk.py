"""TopK: the k largest latents of a row fire (Gao et al. 2024, arXiv 2406.04093, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from hsae.sae.variants.variant import FigureStyle, SaeVariant, Setting

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries


FiringPerRow = Annotated[
    int,
    Ge(1),
    Setting(
        "how many latents a row keeps; batch_topk and matryoshka: on average",
        option="--k",
        help="Firing latents per row of an SAE of the TopK family; of some kinds, on average.  [default: 32]",
    ),
]
"""The setting that all kinds with a fixed number of firing latents have in common."""


@dataclass(frozen=True)
class TopK(SaeVariant):
    """TopK (Gao et al. 2024, arXiv 2406.04093, sections 2.3 and 2.4, appendix A.2), with its auxiliary loss AuxK.

        pre       = encoder_weight @ (x_scaled - pre_bias) + encoder_bias
        z         = relu(pre) at the k largest of a row, 0 elsewhere
        x_hat     = decoder_weight.T @ z + pre_bias
        e         = x_scaled - x_hat                                              without a gradient
        e_hat     = decoder_weight.T @ (the k_aux largest pre-activations of dead latents)
        auxiliary = sum_b |e_b - e_hat_b|^2 / sum_b |e_b|^2                       0 while no latent is dead
        loss      = mean_b |x_b - x_hat_b|^2 / d_model + aux_coefficient * auxiliary

    As in the paper there is no penalty, and the coefficient of AuxK is 1/32; in its equation the encoder has no bias.
    Ours: k_aux is k and not d_model / 2, pre-activations of dead latents are lifted until they fire, and a latent is
    dead after `dead_after_steps` steps and not after 10 million tokens (docs/sae.md, "Losses").
    """

    kind = "topk"
    title = "TopK SAE"
    style = FigureStyle(colour="#D55E00", marker="s", control_width=1.8)
    export_code = """\
strongest = pre.relu().topk(config["k"])
return torch.zeros_like(pre).scatter(-1, strongest.indices, strongest.values)"""

    k: FiringPerRow = 32

    def latent_counts(self) -> Mapping[str, int]:
        """A row cannot keep more latents than there are."""
        return {"k": self.k}

    def initial_l0(self, n_latents: int) -> int:
        """As many as after the last step: k."""
        return self.k

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Where the k largest of a row are, as far as they are positive; among equals the lower latent number wins."""
        from hsae.sae.kernels.entries import top_k_entries

        return top_k_entries(pre, self.k)
