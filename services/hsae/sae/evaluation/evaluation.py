"""What is measured of a trained SAE beside its reconstruction: held-out rows and as many training rows side by side."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from hsae.sae.evaluation.decoder_coherence import DecoderCoherence, decoder_coherence
from hsae.sae.evaluation.firing import Firing
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


def evaluate(
    sae: SparseAutoencoder,
    rows: ChunkedRows,
    split: RowSplit,
    device: torch.device,
    *,
    holdout: Firing | None,
    train: Firing,
) -> Evaluation:
    """Measure an SAE on `device`. It draws from no generator of torch, and changes nothing of the SAE.

    Args:
        sae: the SAE.
        rows: where the activations are.
        split: which of them measure.
        device: where the SAE is.
        holdout: what fires on `split.holdout`; None: nothing was held out.
        train: what fires on `split.measured_train`.
    """

    def measured(firing: Firing, positions: Int[Tensor, "n"]) -> RowEvaluation:
        aligned, shuffled = measure_cknna(sae, rows, positions, device)
        return RowEvaluation(firing.l0_quantiles(), firing.density_histogram(), aligned, shuffled)

    return Evaluation(
        None if holdout is None else measured(holdout, split.holdout),
        measured(train, split.measured_train),
        decoder_coherence(sae.decoder_weight, sae.config.seed),
    )
