"""Class information in the raw activations of a layer, independent of any SAE: all probes of one layer."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int

from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.probes.class_distances import PathCorrelation, path_distance_correlation
from hsae.hierarchy.probes.image_parts import ProbeParts
from hsae.hierarchy.probes.level_scores import LevelScores, level_scores, neighbours_that_vote
from hsae.hierarchy.probes.linear_probe import ProbeResult, linear_probe
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class ClassInformation:
    """What the probes of one layer found; NaN where undefined.

    Attributes:
        levels: ridge probe and nearest neighbours at every level of the taxonomy.
        k: number of neighbours that voted.
        paths: correlation of the classes' path distance with the distance of their centroids over the scored images.
        logistic: the logistic probe for the classes; None if it was not asked for.
    """

    levels: LevelScores
    k: int
    paths: PathCorrelation
    logistic: ProbeResult | None


def class_information(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    parts: ProbeParts,
    config: ProbeConfig,
    *,
    device: torch.device | None = None,
    check: Callable[[], None] = go_on,
) -> ClassInformation:
    """Probe a layer's activations for the classes of the images.

    Args:
        activations: one row per image.
        labels: class of every image, a position in `taxonomy.classes`.
        taxonomy: the induced taxonomy of the data set's classes.
        parts: the images to train on and to score.
        config: how.
        device: device for the neighbours and the logistic probe; the CPU by default.
        check: called between steps; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, or they and the labels do not fit the taxonomy.
    """
    k = neighbours_that_vote(labels, parts.train, config.n_neighbours)
    levels = level_scores(activations, labels, taxonomy, parts, k=k, device=device, check=check)
    paths = path_distance_correlation(
        activations[parts.score],
        labels[parts.score],
        taxonomy,
        seed=config.seed,
        n_shuffles=config.n_path_shuffles,
        check=check,
    )
    logistic = None
    if config.logistic:
        logistic = linear_probe(activations, labels, parts=parts, seed=config.seed, device=device, check=check)
    return ClassInformation(levels, k, paths, logistic)
