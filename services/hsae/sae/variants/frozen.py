"""A decoder that is never trained: the baseline "a trained decoder adds nothing" (arXiv 2602.14111)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hsae.sae.variants.topk import TopK
from hsae.sae.variants.variant import FigureStyle, StepDone

if TYPE_CHECKING:
    from hsae.sae.weights import SaeWeights


@dataclass(frozen=True)
class Frozen(TopK):
    """TopK whose directions stay the random ones that it starts with; encoder and biases are trained."""

    kind = "frozen"
    title = "frozen-decoder SAE"
    style = FigureStyle(colour="#CC79A7", marker="v", control_width=1.0)
    free_directions = False

    def before_step(self, sae: SaeWeights) -> None:
        """Without a gradient Adam's moments stay 0, and so the decoder's bits stay what they were."""
        gradient = sae.decoder_weight.grad
        assert gradient is not None  # noqa: S101
        gradient.zero_()

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Nothing: to normalise the directions again would change their last bits."""
