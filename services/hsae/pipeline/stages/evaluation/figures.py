"""The columns of an SAE that come from what was measured beside its reconstruction."""

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from hsae.catalog import Json
from hsae.pipeline.stages.evaluation.class_probe import ProbedReconstruction, ProbedRows, probe_reconstruction
from hsae.sae.model import SparseAutoencoder

_OF_ROWS = ("l0_quantiles", "density_histogram", "cknna", "cknna_shuffled")
_OF_DECODER = ("mean", "max", "random")


def class_figures(
    sae: SparseAutoencoder, probed: ProbedRows, classes: Int64[np.ndarray, "n_listed"] | None, device: torch.device
) -> Json | None:
    """What `probe_reconstruction` finds, as JSON; None where it is undefined or images have several classes."""
    found = None if classes is None else probe_reconstruction(sae, probed, classes, device)
    return None if found is None else asdict(found)


def further_figures(metrics: Json) -> dict[str, Any]:
    """The values of the columns; None where a figure is undefined.

    Args:
        metrics: with `evaluation`, an `Evaluation` as JSON, and `classes`, of `class_figures`.
    """
    evaluation = metrics["evaluation"]
    holdout, decoder = evaluation["holdout"] or {}, evaluation["decoder"] or {}
    coherence, greatest, random = (decoder.get(name) for name in _OF_DECODER)
    return {
        **{name: holdout.get(name) for name in _OF_ROWS},
        **{f"train_{name}": evaluation["train"][name] for name in _OF_ROWS if name != "cknna_shuffled"},
        "decoder_coherence": coherence,
        "decoder_coherence_max": greatest,
        "decoder_coherence_random": random,
        **(metrics["classes"] or dict.fromkeys(field.name for field in fields(ProbedReconstruction))),
    }
