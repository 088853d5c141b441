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
    """`z = relu(pre)` at the k largest of a row, 0 elsewhere; no penalty."""

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
