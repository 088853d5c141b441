"""Stage compare: the analyses of a study -> quantities and differences with bootstrap intervals, in Postgres."""

import logging

import numpy as np
import pyarrow as pa
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hsae.catalog import Comparison, ComparisonDifference, ComparisonScore, Json
from hsae.catalog.findings.study_inputs import (
    BestF1,
    analyses_by_key,
    best_f1_rows,
    countable_nodes,
    latent_scores,
    seeds_of_bases,
)
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.errors import UserError
from hsae.hierarchy.scores.shortlist import HIGH_F1
from hsae.hierarchy.statistics.distinct_nodes import MIN_INNER_CLASSES
from hsae.hierarchy.study.intervals import ComparedAnalysis, Difference, NodeValues, Score, compare_analyses
from hsae.pipeline.kinds.compare import COMPARE, CompareRequest
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.pipeline.stages.context import StageContext
from hsae.sae.config import SaeConfig

log = logging.getLogger(__name__)


def compare(request: CompareRequest, context: StageContext) -> Json:
    """Compare the analyses and publish everything in one transaction.

    Raises:
        UserError: an analysis does not exist.
    """
    with context.reading() as session:
        rows = analyses_by_key(session, request.analyses)
        done = _published(session, request.key, {row.id for row in rows})
    if done is not None:  # a former attempt ended between publishing and saying so
        return done
    missing = sorted(set(request.analyses) - {row.key for row in rows})
    if missing:
        raise UserError(f"analysis {missing[0]} is not there: submit the request again to make it")
    analyses = sorted(
        (ComparedAnalysis(row.id, row.key, row.layer, sae_label(SaeConfig.parse(row.sae_config))) for row in rows),
        key=lambda analysis: analysis.key,  # the numbers depend on who was first
    )
    nodes = _node_values(request, context, analyses)
    log.info("comparing %d analyses, %d bases, over %d nodes", len(rows), len(nodes.columns), len(nodes.is_inner))

    def latents_of(analysis: int) -> dict[str, dict[str, np.ndarray]]:
        with context.reading() as session:
            return latent_scores(session, analysis)

    def on_analysis(n_done: int) -> None:
        context.progress(n_done, len(analyses), COMPARE.unit)
        context.check()

    config = request.comparison
    scores, differences = compare_analyses(
        analyses,
        nodes,
        latents_of,
        seed=config.seed,
        n_resamples=config.n_resamples,
        confidence=config.confidence,
        on_analysis=on_analysis,
    )
    with context.transaction() as session:
        session.execute(delete(Comparison).where(Comparison.key == request.key))  # of analyses that were dropped since
        comparison = Comparison(
            key=request.key,
            job_id=context.job_id,
            dataset_id=request.dataset.id,
            config=config.model_dump(mode="json"),
        )
        session.add(comparison)
        session.flush()
        copy_rows(session, "comparison_score", score_rows(comparison.id, scores))
        copy_rows(session, "comparison_difference", difference_rows(comparison.id, differences))
        return _summary(comparison.id, len(rows), len(differences))


def _published(session: Session, key: str, analyses: set[int]) -> Json | None:
    """The summary of the existing comparison, if it has rows of all these analyses."""
    found = session.scalar(select(Comparison.id).where(Comparison.key == key))
    compared = select(ComparisonScore.analysis_id).where(ComparisonScore.comparison_id == found).distinct()
    if found is None or set(session.scalars(compared)) != analyses:
        return None
    rows = select(func.count()).select_from(ComparisonDifference).where(ComparisonDifference.comparison_id == found)
    return _summary(found, len(analyses), session.scalars(rows).one())


def _summary(comparison: int, n_analyses: int, n_differences: int) -> Json:
    return {"comparison": comparison, "n_analyses": n_analyses, "n_differences": n_differences}


def _node_values(request: CompareRequest, context: StageContext, analyses: list[ComparedAnalysis]) -> NodeValues:
    best: dict[int, list[BestF1]] = {}
    seeds: dict[int, dict[str, int]] = {}
    with context.reading() as session:
        n_classes = countable_nodes(session, request.dataset.id)
        for analysis in analyses:
            best[analysis.number] = best_f1_rows(session, analysis.number)
            seeds[analysis.number] = seeds_of_bases(session, analysis.number)
            context.check()
    return node_values(best, seeds, n_classes)


def node_values(
    best: dict[int, list[BestF1]], seeds: dict[int, dict[str, int]], n_classes: dict[str, int]
) -> NodeValues:
    """The best F1 of every node that counts, by analysis and basis.

    Args:
        best: by analysis the stored rows; if a node has none in a basis, no latent fires on it there.
        seeds: by analysis the number of seeds of every basis, over which its F1 is averaged.
        n_classes: by wnid the number of classes under every node that may count. A node with all scored images of an
            analysis does not count.
    """
    whole = {row.wnid for rows in best.values() for row in rows if row.holds_all}
    # Without a row in any basis no scored image is under it: every other node has its latents of the best AUROC.
    seen = {row.wnid for rows in best.values() for row in rows}
    wnids = sorted((set(n_classes) & seen) - whole)  # here, since databases sort text each in its own way
    place = {wnid: i for i, wnid in enumerate(wnids)}
    columns = [(number, basis) for number, bases in seeds.items() for basis in bases]
    at = {column: i for i, column in enumerate(columns)}
    f1, answered = (np.zeros((len(wnids), len(columns))) for _ in range(2))
    for number, rows in best.items():
        for row in rows:
            if row.wnid in place:
                cell = place[row.wnid], at[number, row.basis]
                f1[cell] += row.f1
                answered[cell] += row.f1 >= HIGH_F1
    n_seeds = np.array([seeds[number][basis] for number, basis in columns])
    is_inner = np.array([n_classes[wnid] >= MIN_INNER_CLASSES for wnid in wnids], dtype=bool)
    return NodeValues(columns, f1 / n_seeds, answered / n_seeds, is_inner)


def score_rows(comparison_id: int, scores: list[Score]) -> pa.Table:
    """Rows of comparison_score."""
    return _rows(comparison_id, scores, Score, {"analysis": "analysis_id"})


def difference_rows(comparison_id: int, differences: list[Difference]) -> pa.Table:
    """Rows of comparison_difference."""
    names = {"analysis": "analysis_id", "other_analysis": "other_analysis_id"}
    return _rows(comparison_id, differences, Difference, names)


def _rows(
    comparison_id: int, found: list[Score] | list[Difference], kind: type[Score | Difference], names: dict[str, str]
) -> pa.Table:
    names = names | {"low": "ci_low", "high": "ci_high"}
    columns: dict[str, pa.Array] = {"comparison_id": pa.array(np.full(len(found), comparison_id))}
    for i, field in enumerate(kind._fields):
        values = [row[i] for row in found]
        # NaN, undefined, is NULL.
        columns[names.get(field, field)] = pa.array(values, from_pandas=True)
    return pa.table(columns)
