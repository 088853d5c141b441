"""The results of a study's comparison."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.studies import require_study
from hsae.errors import UserError


def find_comparison(session: Session, study_id: int) -> Row:
    """A study's comparison: id, key, config, dataset, whether its analyses are `in_sample` or `cross_fitted`.

    Raises:
        UserError: there is no such study, or its comparison does not exist yet.
    """
    found = session.execute(
        text(
            """
            SELECT c.id, c.key, c.config, d.name AS dataset,
                   EXISTS (SELECT FROM comparison_score v JOIN analysis a ON a.id = v.analysis_id
                           WHERE v.comparison_id = c.id AND a.split IS NULL) AS in_sample,
                   EXISTS (SELECT FROM comparison_score v
                           WHERE v.comparison_id = c.id AND v.n_folds > 1) AS cross_fitted
            FROM comparison c JOIN study_job s ON s.job_id = c.job_id JOIN dataset d ON d.id = c.dataset_id
            WHERE s.study_id = :study
            """
        ),
        {"study": study_id},
    ).mappings()
    row = found.one_or_none()
    if row is not None:
        return dict(row)
    require_study(session, study_id)
    job = session.execute(
        text(
            "SELECT j.id, j.state FROM job j JOIN study_job s ON s.job_id = j.id"
            " WHERE s.study_id = :study AND j.kind = 'compare'"
        ),
        {"study": study_id},
    ).one_or_none()
    if job is None:
        raise UserError(f"study {study_id} is of a version without comparisons: submit it again, which adds one")
    raise UserError(f"the comparison of study {study_id} is not made: its job {job.id} is {job.state}")


def held_out_l0_range(session: Session, comparison_id: int) -> tuple[float | None, float | None]:
    """The least and the greatest held-out L0 of the SAEs compared; None where no SAE held out rows."""
    query = """
        SELECT min(e.l0), max(e.l0) FROM sae e JOIN analysis a ON a.sae_id = e.id
        WHERE a.id IN (SELECT v.analysis_id FROM comparison_score v WHERE v.comparison_id = :id)
    """
    least, greatest = session.execute(text(query), {"id": comparison_id}).one()
    return least, greatest


def comparison_scores(session: Session, comparison_id: int) -> list[Row]:
    """Every quantity with its interval, by metric, layer and SAE; the SAE comes before its controls."""
    query = """
        SELECT v.metric, v.analysis_id, i.layer, i.sae_config AS sae, v.basis, v.value, v.ci_low, v.ci_high, v.n,
               v.n_seeds, v.n_folds
        FROM comparison_score v JOIN analysis_input i ON i.analysis_id = v.analysis_id
        WHERE v.comparison_id = :id
        ORDER BY v.metric, i.sae_kind, i.expansion, i.sae_config::text, i.layer, v.analysis_id, v.basis <> 'sae',
                 v.basis
    """
    return [dict(row) for row in session.execute(text(query), {"id": comparison_id}).mappings()]


def comparison_differences(session: Session, comparison_id: int) -> list[Row]:
    """Every difference with its interval, by metric, layer and SAE; `is_apart`: the interval excludes 0."""
    query = """
        SELECT v.metric, v.analysis_id, i.layer, i.sae_config AS sae, v.basis, v.other_analysis_id,
               o.layer AS other_layer, o.sae_config AS other_sae, v.other_basis, v.value, v.ci_low, v.ci_high, v.n,
               v.n_seeds, v.n_folds, coalesce(v.ci_low > 0 OR v.ci_high < 0, false) AS is_apart
        FROM comparison_difference v
        JOIN analysis_input i ON i.analysis_id = v.analysis_id
        JOIN analysis_input o ON o.analysis_id = v.other_analysis_id
        WHERE v.comparison_id = :id
        ORDER BY v.metric, i.sae_kind, i.expansion, i.sae_config::text, i.layer, v.analysis_id, v.other_basis, o.layer,
                 o.analysis_id
    """
    return [dict(row) for row in session.execute(text(query), {"id": comparison_id}).mappings()]


def comparison_trends(session: Session, comparison_id: int) -> list[Row]:
    """Every slope over the layers with its interval, by metric and SAE."""
    query = """
        SELECT v.metric, v.analysis_id, i.sae_config AS sae, v.slope, v.ci_low, v.ci_high, v.n_layers, v.n_seeds,
               v.n_folds
        FROM comparison_trend v JOIN analysis_input i ON i.analysis_id = v.analysis_id
        WHERE v.comparison_id = :id
        ORDER BY v.metric, i.sae_kind, i.expansion, i.sae_config::text, v.analysis_id
    """
    return [dict(row) for row in session.execute(text(query), {"id": comparison_id}).mappings()]


def first_analyses(session: Session, comparison_id: int) -> dict[int, int]:
    """By analysis the first one of those that the comparison takes as one, which differ in seed and half alone.

    Empty for comparisons of earlier versions.
    """
    query = "SELECT analysis_id, first_analysis_id FROM comparison_analysis WHERE comparison_id = :id"
    return {row.analysis_id: row.first_analysis_id for row in session.execute(text(query), {"id": comparison_id})}
