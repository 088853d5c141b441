"""Class information in a layer's raw activations: equal for every SAE of the layer, so computed for the first only."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float32, Int64
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, Analysis, LayerScore, LevelScore, Sae
from hsae.hierarchy.probes.class_distances import path_distance_correlation
from hsae.hierarchy.probes.level_scores import LevelScores, level_scores
from hsae.hierarchy.probes.linear_probe import stratified_split
from hsae.pipeline.kinds.analyze import ANALYSIS_FORMAT, AnalyzeRequest
from hsae.pipeline.stages.context import StageContext
from hsae.taxonomy import InducedTaxonomy

MAX_IMAGES = 100_000
"""Of larger data sets so many images, the same share of every class: neighbours take time with the square of them."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassInformation:
    """Scores of raw activations; NaN where undefined.

    Attributes:
        levels: linear probe and nearest neighbours at every level of the taxonomy.
        path_correlation: of the classes' path distance and the cosine distance of their centred means.
        path_correlation_shuffled: the same with the classes shuffled over the tree, mean over the shuffles.
    """

    levels: LevelScores
    path_correlation: float
    path_correlation_shuffled: float


def class_information(
    request: AnalyzeRequest,
    raw: Float32[np.ndarray, "n_images d_model"],
    labels: Int64[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    context: StageContext,
) -> ClassInformation:
    """Score the layer's activations, or read the scores from an analysis of another SAE of the same layer.

    Raises:
        UserError: the activations contain NaN or infinity.
    """
    with context.reading() as session:
        known = _of_another_analysis(session, request, len(labels))
    if known is not None:
        return known
    seed = request.scoring.seed
    if len(labels) > MAX_IMAGES:
        is_kept = stratified_split(labels, MAX_IMAGES / len(labels), seed)
        raw, labels = raw[is_kept], labels[is_kept]
    levels = level_scores(raw, labels, taxonomy, seed=seed, device=context.device, check=context.check)
    correlation = path_distance_correlation(raw, labels, taxonomy, seed=seed, check=context.check)
    return ClassInformation(levels, correlation.cosine, correlation.shuffled_cosine_mean)


def _has_split(request: AnalyzeRequest) -> ColumnElement[bool]:
    """Whether an analysis divides the images as this one does."""
    if request.split is None:
        return Analysis.split.is_(None)
    return Analysis.split.contains(request.split.model_dump(mode="json"))


def _of_another_analysis(session: Session, request: AnalyzeRequest, n_images: int) -> ClassInformation | None:
    """The rows of the first analysis of the same activations by this version, with the same seed."""
    analysis = session.scalar(
        select(Analysis.id)
        .join(Sae, Sae.id == Analysis.sae_id)
        .join(ActivationSet, ActivationSet.id == Sae.activation_set_id)
        .where(
            ActivationSet.key == request.activation_key,
            Analysis.dataset_id == request.dataset.id,
            Analysis.n_images == n_images,
            Analysis.config["seed"].as_integer() == request.scoring.seed,
            Analysis.config["format"].as_integer() == ANALYSIS_FORMAT,
            _has_split(request),
        )
        .order_by(Analysis.id)
        .limit(1)
    )
    if analysis is None:
        return None
    rows = session.scalars(
        select(LevelScore).where(LevelScore.analysis_id == analysis).order_by(LevelScore.level)
    ).all()
    if not rows:
        return None
    layer = session.scalars(
        select(LayerScore).where(LayerScore.analysis_id == analysis, LayerScore.basis == "sae")
    ).one()
    whole = {"level", "n_groups", "n_train", "n_test"}
    columns = {
        field.name: np.array(
            [getattr(row, field.name) for row in rows], np.int32 if field.name in whole else np.float64
        )
        for field in fields(LevelScores)
    }
    correlation = (layer.path_correlation, layer.path_correlation_shuffled)
    return ClassInformation(LevelScores(**columns), *(np.nan if value is None else value for value in correlation))
