"""Nested dictionaries with BatchTopK: every prefix of the latents reconstructs (Bussmann et al. 2025, 2503.17547)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

from hsae.errors import UserError
from hsae.sae.variants.batch_topk import BatchTopK
from hsae.sae.variants.variant import FigureStyle, Setting

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.entries import Entries
    from hsae.sae.weights import SaeWeights

_MOST_GROUPS = 32
_SHARE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}|/0*[1-9][0-9]{0,8})?", re.ASCII)


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK over all latents, trained such that every prefix of the dictionary reconstructs by itself.

    The paper's equations (arXiv 2503.17547, section 3), with prefix sizes `m_1 < .. < m_G = n_latents`:

        z    = BatchTopK(encoder_weight @ (x - pre_bias) + encoder_bias)
        loss = sum_g |x - (decoder_weight[:m_g].T @ z[:m_g] + pre_bias)|^2 + aux_coefficient * auxiliary

    So the first latents learn what is general, and the later ones may be specific without being needed for it. The
    auxiliary loss is of the residual of the whole dictionary. Ours: the sum over prefixes is divided by their number,
    so that the loss has the size of one reconstruction; `m_g = max(1, round(share_g * n_latents))`. Selection,
    threshold and inference are those of `BatchTopK`.
    """

    kind = "matryoshka"
    title = "Matryoshka SAE"
    style = FigureStyle(colour="#009E73", marker="P", control_width=1.8)

    groups: Annotated[
        str,
        Setting(
            "prefixes of the dictionary that reconstruct by themselves, as rising shares of it that end at 1",
            option="--groups",
            help="Prefixes of a Matryoshka SAE's dictionary, as rising shares of it.  [default: 1/16,1/8,1/4,1/2,1]",
        ),
    ] = "1/16,1/8,1/4,1/2,1"

    def __post_init__(self) -> None:
        """Write the shares as fractions in lowest terms.

        Raises:
            UserError: they are no rising shares that end at 1.
        """
        object.__setattr__(self, "groups", ",".join(map(str, _shares(self.groups))))

    def prefix_sizes(self, n_latents: int) -> list[int]:
        """How many latents each prefix has."""
        return [max(1, round(share * n_latents)) for share in _shares(self.groups)]

    def reconstruct(
        self,
        sae: SaeWeights,
        x_scaled: Float[Tensor, "batch d_model"],
        entries: Entries,
        z: Float[Tensor, "n_entries"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch d_model"]]:
        """The mean of the losses of all prefixes."""
        from hsae.sae.kernels.nested import groups_of, nested_reconstruction

        sizes = self.prefix_sizes(sae.n_latents)
        groups = groups_of(entries.latents, sizes)
        return nested_reconstruction(
            x_scaled - sae.pre_bias, entries, z, sae.decoder_weight, groups=groups, weights=[1.0] * len(sizes)
        )


def _shares(text: str) -> list[Fraction]:
    parts = [part.strip() for part in text.split(",")]
    shares = [Fraction(part) for part in parts] if all(map(_SHARE.fullmatch, parts)) else []
    rise = all(low < high for low, high in zip([Fraction(0), *shares], shares, strict=False))
    if not (2 <= len(shares) <= _MOST_GROUPS and rise and shares[-1] == 1):
        raise UserError(
            f"groups {text!r} is not valid: give 2 to {_MOST_GROUPS} rising shares that end at 1 in one text, such as "
            "1/16,1/8,1/4,1/2,1; for a single group choose kind batch_topk"
        )
    return shares
