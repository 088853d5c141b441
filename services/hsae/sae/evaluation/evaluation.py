"""What is measured of a trained SAE beside its reconstruction: held-out rows and as many training rows side by side."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hsae.sae.evaluation.decoder_coherence import DecoderCoherence, decoder_coherence
from hsae.sae.evaluation.firing import measure_firing
from hsae.sae.evaluation.neighbours import measure_cknna
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import ChunkedRows
from hsae.sae.rows.split import RowSplit


@dataclass(frozen=True, slots=True)
class RowEvaluation:
    """Figures of some rows of view 0.

    Attributes:
        l0_quantiles: of the number of firing latents, see `Firing.l0_quantiles`.
        density_histogram: how many latents fire how often, see `Firing.density_histogram`.
        cknna: alignment of the nearest neighbours among latents and activations, see `cknna`; None: undefined.
        cknna_shuffled: the same with the rows of the latents shuffled: its null.
    """

    l0_quantiles: list[float]
    density_histogram: list[int]
    cknna: float | None
    cknna_shuffled: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it.

    Attributes:
        holdout: on the rows of held-out images; None: nothing was held out.
        train: on as many rows of training images (`RowSplit.measured_train`).
        decoder: of the dictionary itself; None: it has one direction.
    """

    holdout: RowEvaluation | None
    train: RowEvaluation
    decoder: DecoderCoherence | None


def evaluate(sae: SparseAutoencoder, rows: ChunkedRows, split: RowSplit, device: torch.device) -> Evaluation:
    """Measure an SAE on `device`. It draws from no generator of torch, and changes nothing of the SAE."""

    def measured(positions: Int[Tensor, "n"]) -> RowEvaluation:
        firing = measure_firing(sae, rows, positions, device)
        aligned, shuffled = measure_cknna(sae, rows, positions, device)
        return RowEvaluation(firing.l0_quantiles(), firing.density_histogram(), aligned, shuffled)

    return Evaluation(
        measured(split.holdout) if split.holdout.shape[0] else None,
        measured(split.measured_train),
        decoder_coherence(sae.decoder_weight, sae.config.seed),
    )
