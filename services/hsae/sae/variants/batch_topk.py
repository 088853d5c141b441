"""BatchTopK: the k * batch largest latents of a whole batch fire (Bussmann et al. 2024, arXiv 2412.06410)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hsae.sae.variants.topk import TopK
from hsae.sae.variants.variant import FigureStyle, StepDone

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from hsae.sae.kernels.batch_selection import Cut
    from hsae.sae.kernels.entries import Entries
    from hsae.sae.losses import StepLosses, TrainingStep
    from hsae.sae.weights import SaeWeights

_LEAST_SHARE = 0.01
_WINDOWS = 10


@dataclass(frozen=True)
class BatchTopK(TopK):
    """`z = relu(pre)` at the `k * B` largest of all rows of a batch of B together; at inference, above a threshold.

    The paper's equations (section 3), with `pre = encoder_weight @ (x - pre_bias) + encoder_bias`:

        training:   z = relu(pre) where it is among the k * B largest of the batch, else 0
                    loss = |x - x_hat|^2 + aux_coefficient * auxiliary
        inference:  z_j = relu(pre_j) if relu(pre_j) > threshold, else 0
                    threshold = mean over batches of the smallest positive z of the batch

    Ours, where the paper is silent: of equal pre-activations at the cut those of lower rows, then of lower latents
    fire, so that exactly `k * B` do; fewer where fewer are positive. `threshold` (a tensor, 0 before the first step)
    moves after every step by a share of the way to the smallest z of its batch: by `1 / (step + 1)` in the first tenth
    of the training (at most 100 steps), the mean so far, then by `10 / n_steps` (at least 0.01): the last tenth of a
    training decides, for directions still change before. A batch in which nothing fires leaves it. A batch that goes
    through the device in parts is still selected from as a whole.
    """

    kind = "batch_topk"
    title = "BatchTopK SAE"
    style = FigureStyle(colour="#E69F00", marker="^", control_width=1.8)
    export_code = 'return pre.where(pre > sae["threshold"], torch.zeros_like(pre))'

    def own_buffers(self, n_latents: int, d_model: int) -> Mapping[str, tuple[int, ...]]:
        """The threshold of inference."""
        return {"threshold": ()}

    def prepare_batch(self, sae: SaeWeights, parts: Sequence[Float[Tensor, "part d_model"]]) -> Sequence[Cut]:
        """Where the cut of the whole batch lies in each part."""
        from hsae.sae.kernels.batch_selection import cuts_of_parts

        n_rows = sum(part.shape[0] for part in parts)
        return cuts_of_parts((sae.pre_activations(part) for part in parts), self.k * n_rows)

    def firing(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        """The `k * B` largest of a batch, as far as they are positive."""
        return _Selection(self.k, None)(pre)

    def encode(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"]) -> Float[Tensor, "batch n_latents"]:
        """The pre-activations above the threshold."""
        pre = sae.pre_activations(x_scaled)
        return pre.where(pre > sae.get_buffer("threshold"), pre.new_zeros(()))

    def losses(self, sae: SaeWeights, x_scaled: Float[Tensor, "batch d_model"], at: TrainingStep) -> StepLosses:
        """Those of all kinds; the note is the smallest z of the whole batch."""
        from hsae.sae.losses import sparse_losses

        selection = _Selection(self.k, at.prepared)
        losses = sparse_losses(
            sae,
            x_scaled,
            at,
            firing=selection,
            l1_weight=0.0,
            initial_l0=self.initial_l0(sae.n_latents),
            reconstruct=self.reconstruct,
        )
        return replace(losses, note=selection.least)

    def after_step(self, sae: SaeWeights, done: StepDone) -> None:
        """Directions get unit norm; the threshold moves towards the smallest z of the batch."""
        super().after_step(sae, done)
        threshold, least = sae.get_buffer("threshold"), done.notes[0]
        share = max(1 / (done.step + 1), min(1.0, _WINDOWS / done.n_steps), _LEAST_SHARE)
        moved = threshold + share * (least - threshold)
        threshold.copy_(moved.where(least.isfinite(), threshold))


class _Selection:
    """Which latents of a part fire, and the smallest z of the batch once that was asked."""

    least: Any = None

    def __init__(self, k: int, cut: Cut | None) -> None:
        self.k = k
        self.cut = cut

    def __call__(self, pre: Float[Tensor, "batch n_latents"]) -> Entries:
        from hsae.sae.kernels.batch_selection import entries_of_cut, largest_entries

        if self.cut is None:
            entries, self.least = largest_entries(pre, self.k * pre.shape[0])
            return entries
        self.least = self.cut.least
        return entries_of_cut(pre, self.cut)
