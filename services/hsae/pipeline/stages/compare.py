"""Stage compare: the analyses of a study -> quantities, differences and trends with intervals, in Postgres."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from hsae.catalog import Comparison, ComparisonAnalysis, ComparisonDifference, Json
from hsae.catalog.findings.study_inputs import AnalysisRow, ReplicateRow, analyses_by_key, replicate_rows
from hsae.catalog.server.bulk_copy import copy_rows
from hsae.errors import UserError
from hsae.hierarchy.study.estimates import Estimate, Run
from hsae.hierarchy.study.intervals import Column, ComparedGroup, Difference, Score, Trend, compare_groups
from hsae.hierarchy.study.seed_stability import is_matched_one_to_one, seed_stability
from hsae.pipeline.kinds.compare import COMPARE, COMPARISON_FORMAT, CompareRequest
from hsae.pipeline.kinds.setting_labels import seedless_label
from hsae.pipeline.stages.context import StageContext
from hsae.sae.config import SaeConfig
from hsae.sae.training.initialisation import initial_directions
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

log = logging.getLogger(__name__)


class SeedGroup(NamedTuple):
    """The analyses of one SAE configuration at one layer by the seed of the SAE and the fold, the smallest first."""

    group: ComparedGroup
    members: dict[Run, AnalysisRow]

    def by_seed(self) -> list[dict[int, AnalysisRow]]:
        """The analyses of every fold by seed. Folds have other training images, and so latents of their own."""
        folds: dict[int, dict[int, AnalysisRow]] = {}
        for run, row in self.members.items():
            folds.setdefault(run.fold, {})[run.seed] = row
        return list(folds.values())


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
    groups = seed_groups(rows)
    replicates: dict[int, list[ReplicateRow]] = {}
    with context.reading() as session:
        for row in rows:
            replicates[row.id] = replicate_rows(session, row.id)
    bare = [row.id for row in rows if not replicates[row.id]]
    if bare:
        log.warning("%d analyses of an earlier version have no replicates and are left out: %s", len(bare), bare)
    log.info("comparing %d analyses in %d groups of seeds and halves", len(rows), len(groups))
    found = compare_groups([one.group for one in groups], estimates(groups, replicates), request.comparison.confidence)
    stability = []
    n_done = 0
    for one in groups:
        for members in one.by_seed():
            stability += stability_rows(members, context)
        n_done += len(one.members)
        context.progress(n_done, len(rows), COMPARE.unit)
        context.check()
    config = request.comparison.model_dump(mode="json") | {"format": COMPARISON_FORMAT}
    with context.transaction() as session:
        session.execute(delete(Comparison).where(Comparison.key == request.key))  # of analyses that were dropped since
        comparison = Comparison(key=request.key, job_id=context.job_id, dataset_id=request.dataset.id, config=config)
        session.add(comparison)
        session.flush()
        session.add_all(
            ComparisonAnalysis(comparison_id=comparison.id, analysis_id=row.id, first_analysis_id=one.group.number)
            for one in groups
            for row in one.members.values()
        )
        session.flush()
        scores, differences, trends = found
        copy_rows(session, "comparison_score", score_rows(comparison.id, scores))
        copy_rows(session, "comparison_difference", difference_rows(comparison.id, differences))
        copy_rows(session, "comparison_trend", trend_rows(comparison.id, trends))
        for table in stability:
            with_comparison = table.append_column("comparison_id", pa.array(np.full(table.num_rows, comparison.id)))
            copy_rows(session, "latent_stability", with_comparison)
        return _summary(comparison.id, len(rows), len(differences))


def _published(session: Session, key: str, analyses: set[int]) -> Json | None:
    """The summary of the existing comparison, if it is of all these analyses."""
    found = session.scalar(select(Comparison.id).where(Comparison.key == key))
    compared = select(ComparisonAnalysis.analysis_id).where(ComparisonAnalysis.comparison_id == found)
    if found is None or set(session.scalars(compared)) != analyses:
        return None
    rows = select(func.count()).select_from(ComparisonDifference).where(ComparisonDifference.comparison_id == found)
    return _summary(found, len(analyses), session.scalars(rows).one())


def _summary(comparison: int, n_analyses: int, n_differences: int) -> Json:
    return {"comparison": comparison, "n_analyses": n_analyses, "n_differences": n_differences}


def seed_groups(rows: Iterable[AnalysisRow]) -> list[SeedGroup]:
    """The analyses by layer and SAE configuration.

    Analyses that differ in the seed of the SAE or in the fold of the images alone are one group.
    """
    members: dict[tuple[int, str], dict[Run, AnalysisRow]] = {}
    for row in rows:
        config = SaeConfig.parse(row.sae_config)
        members.setdefault((row.layer, seedless_label(config)), {})[Run(config.seed, row.fold)] = row
    groups = []
    for (layer, sae), by_run in sorted(members.items()):
        ordered = dict(sorted(by_run.items()))
        first = next(iter(ordered.values()))
        groups.append(SeedGroup(ComparedGroup(first.id, first.key, layer, sae), ordered))
    return groups


def estimates(
    groups: Sequence[SeedGroup], replicates: Mapping[int, Sequence[ReplicateRow]]
) -> dict[str, dict[Column, Estimate]]:
    """The quantities by metric, group and basis.

    Args:
        groups: the analyses.
        replicates: by analysis its stored rows; a shuffled basis counts with the mean over the seeds of its shuffles.
    """
    found: dict[str, dict[Column, dict[Run, list[ReplicateRow]]]] = {}
    for group, members in groups:
        for run, analysis in members.items():
            for row in replicates[analysis.id]:
                column = found.setdefault(row.metric, {}).setdefault((group.number, row.basis), {})
                column.setdefault(run, []).append(row)
    return {
        metric: {column: _estimate(by_run) for column, by_run in columns.items()} for metric, columns in found.items()
    }


def _estimate(by_run: Mapping[Run, Sequence[ReplicateRow]]) -> Estimate:
    return Estimate(
        values={run: float(np.mean([_number(row.value) for row in rows])) for run, rows in by_run.items()},
        replicates={
            run: np.mean([[_number(value) for value in row.replicates] for row in rows], axis=0)
            for run, rows in by_run.items()
        },
        n=min(row.n for rows in by_run.values() for row in rows),
    )


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def score_rows(comparison_id: int, scores: list[Score]) -> pa.Table:
    """Rows of comparison_score."""
    return _rows(comparison_id, scores, Score, {"analysis": "analysis_id"})


def difference_rows(comparison_id: int, differences: list[Difference]) -> pa.Table:
    """Rows of comparison_difference."""
    names = {"analysis": "analysis_id", "other_analysis": "other_analysis_id"}
    return _rows(comparison_id, differences, Difference, names)


def trend_rows(comparison_id: int, trends: list[Trend]) -> pa.Table:
    """Rows of comparison_trend."""
    return _rows(comparison_id, trends, Trend, {"analysis": "analysis_id"})


def _rows(
    comparison_id: int,
    found: Sequence[Score] | Sequence[Difference] | Sequence[Trend],
    kind: type[Score | Difference | Trend],
    names: dict[str, str],
) -> pa.Table:
    names = names | {"low": "ci_low", "high": "ci_high"}
    columns: dict[str, pa.Array] = {"comparison_id": pa.array(np.full(len(found), comparison_id))}
    for i, field in enumerate(kind._fields):
        values = [row[i] for row in found]
        # NaN, undefined, is NULL.
        columns[names.get(field, field)] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def stability_rows(members: Mapping[int, AnalysisRow], context: StageContext) -> list[pa.Table]:
    """Rows of latent_stability, without the comparison's number; none of a single seed.

    Args:
        members: the analyses by the seed of their SAE.
        context: where the weights are stored.

    Raises:
        ObjectMissingError, ObjectCorruptError: the weights of an SAE are not there.
    """
    if len(members) < 2:
        return []
    decoders = []
    for row in members.values():
        context.check()
        key = weights_key(row.sae_key, row.weights_sha256)
        tensors, _ = get_tensors(context.store, key, sha256=row.weights_sha256)
        decoders.append(tensors["decoder_weight"].float().cpu().numpy())
    n_latents, d_model = decoders[0].shape
    context.check()
    untrained = [initial_directions(n_latents, d_model, seed).numpy() for seed in members]
    chance = float(seed_stability(untrained).mean())
    context.check()
    return [
        pa.table(
            {
                "analysis_id": np.full(n_latents, row.id),
                "latent": np.arange(n_latents),
                "stability": stability,
                "chance": np.full(n_latents, chance),
                "is_one_to_one": np.full(n_latents, is_matched_one_to_one(n_latents)),
            }
        )
        for row, stability in zip(members.values(), seed_stability(decoders), strict=True)
    ]
