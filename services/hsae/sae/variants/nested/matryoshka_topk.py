"""Nested TopK: the k largest latents of a row reconstruct, for several k (Zaigrajew et al. 2025, arXiv 2502.20578)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from hsae.errors import UserError
from hsae.sae.variants.variant import FigureStyle, SaeVariant, Setting

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries
    from hsae.sae.weights import SaeWeights

_MOST_COUNTS = 32


@dataclass(frozen=True)
class MatryoshkaTopK(SaeVariant):
    """TopK with the loss of several k at once; the larger ones contain the smaller ones.

    The equations of MSAE (arXiv 2502.20578, section 3), with `k_1 < .. < k_G`:

        pre  = encoder_weight @ (x - pre_bias) + encoder_bias
        z_g  = relu(pre) at the k_g largest of a row, 0 elsewhere
        loss = sum_g weight_g * |x - (decoder_weight.T @ z_g + pre_bias)|^2 / sum_g weight_g
        weight_g = 1 (uniform) or G - g + 1 (reverse: the sparsest reconstruction counts most)

    At inference z is that of the greatest k. The paper's greatest k is all latents, so that it uses all positive ones;
    give n_latents as the last of `ks` for that. Ours: the greatest k is 32 by default, so that the kind compares with
    the others at equal L0; among equals the lower latent is kept, at every k; the auxiliary loss of TopK, of the
    residual of the greatest k (MSAE has none).
    """

    kind = "matryoshka_topk"
    title = "Matryoshka TopK SAE"
    style = FigureStyle(colour="#44AA99", marker="X", control_width=1.8)
    export_code = """\
strongest = pre.relu().topk(max(map(int, config["ks"].split(","))))
return torch.zeros_like(pre).scatter(-1, strongest.indices, strongest.values)"""

    ks: Annotated[
        str,
        Setting(
            "how many latents a row keeps, at each granularity: rising numbers, of which the last is for inference",
            option="--ks",
            help="Firing latents per row at each granularity of a matryoshka_topk SAE.  [default: 8,16,32]",
        ),
    ] = "8,16,32"
    weighting: Annotated[
        Literal["uniform", "reverse"],
        Setting(
            "weights of the granularities: uniform, or reverse (the fewest latents count most)",
            option="--weighting",
            help="Weights of a matryoshka_topk SAE's granularities; reverse: the fewest latents count most."
            "  [default: uniform]",
        ),
    ] = "uniform"

    def __post_init__(self) -> None:
        """Write the numbers in one way.

        Raises:
            UserError: they are no rising numbers.
        """
        object.__setattr__(self, "ks", ",".join(map(str, _counts(self.ks))))

    def latent_counts(self) -> Mapping[str, int]:
        """A row cannot keep more latents than there are."""
        return {"ks": self.counts()[-1]}

    def initial_l0(self, n_latents: int) -> int:
        """As many as after the last step: the greatest k."""
        return self.counts()[-1]

    def counts(self) -> list[int]:
        """Every k, the smallest first."""
        return _counts(self.ks)

    def weights(self) -> list[float]:
        """The weight of every k."""
        n = len(self.counts())
        return [1.0] * n if self.weighting == "uniform" else [float(n - place) for place in range(n)]

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """Where the largest of a row are, in falling order, as many as the greatest k; only what is positive."""
        from hsae.sae.kernels.nested import ranked_entries

        return ranked_entries(pre, self.counts())

    def reconstruct(
        self,
        sae: SaeWeights,
        x_scaled: Float[Tensor, "batch d_model"],
        entries: Entries,
        z: Float[Tensor, "n_entries"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d_model"]]:
        """The weighted mean of the losses of all k."""
        from hsae.sae.kernels.nested import groups_of, nested_reconstruction, ranks

        groups = groups_of(ranks(entries), self.counts())
        return nested_reconstruction(
            x_scaled - sae.pre_bias, entries, z, sae.decoder_weight, groups=groups, weights=self.weights()
        )


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    rise = all(low < high for low, high in zip([0, *counts], counts, strict=False))
    if not (2 <= len(counts) <= _MOST_COUNTS and rise):
        raise UserError(
            f"ks {text!r} is not valid: give 2 to {_MOST_COUNTS} rising numbers in one text, such as 8,16,32; "
            "for a single number choose kind topk"
        )
    return counts
