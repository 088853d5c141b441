"""A decoder that may move a little: the weaker baseline "a trained decoder adds little" (arXiv 2602.14111)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Lt

from hsae.sae.variants.topk import TopK
from hsae.sae.variants.variant import FigureStyle, Setting, StepDone

if TYPE_CHECKING:
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class SoftFrozen(TopK):
    """TopK whose directions keep a cosine of at least `min_cosine` with the random ones that they start with."""

    kind = "soft_frozen"
    title = "soft-frozen-decoder SAE"
    style = FigureStyle(colour="#56B4E9", marker="D", control_width=1.4)
    free_directions = False

    min_cosine: Annotated[
        float,
        Ge(-1),
        Lt(1),
        Setting(
            "least cosine of a direction and its first value",
            option="--min-cosine",
            help="Least cosine of a soft_frozen SAE's directions with their first values.  [default: 0.8]",
        ),
    ] = 0.8

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """The first directions: a checkpoint must know them, and a reader can check the bound."""
        return {"initial_directions": (n_latents, d_model)}

    def initialise(self, sae: SaeWeights) -> None:
        """Keep the first directions."""
        sae.get_buffer("initial_directions").copy_(sae.decoder_weight)

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Directions get unit norm; one outside its cone moves to the nearest direction on the cone's edge."""
        super().after_step(sae, done)
        first, directions = sae.get_buffer("initial_directions"), sae.decoder_weight
        cosine = (directions * first).sum(dim=1, keepdim=True)
        across = directions - cosine * first
        across /= across.norm(dim=1, keepdim=True).clamp_min(1e-12)
        edge = self.min_cosine * first + (1 - self.min_cosine**2) ** 0.5 * across
        edge /= edge.norm(dim=1, keepdim=True).clamp_min(1e-12)
        directions.copy_(directions.where(cosine >= self.min_cosine, edge))
