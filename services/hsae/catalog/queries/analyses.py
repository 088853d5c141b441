"""One analysis with everything from which it was made."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError


def find_analysis(session: Session, analysis: int | None) -> Row:
    """An analysis with the names of all its inputs; None takes the last one of the study submitted last.

    Raises:
        UserError: there is none.
    """
    query = """
        SELECT i.analysis_id AS id, i.analysis_key AS key, i.scoring AS config, i.split, i.n_images,
               a.activations_sha256, a.class_sums_sha256, i.dataset_id, i.dataset,
               CASE WHEN i.split ? 'score_dataset' THEN t.name END AS train_dataset,
               i.sae_key, i.sae_kind, i.expansion, i.sae_config, e.metrics AS sae_metrics, e.weights_sha256,
               i.n_latents, i.layer, i.tokens, i.model, i.revision, m.preprocessing, i.d_model
        FROM analysis_input i
        JOIN analysis a ON a.id = i.analysis_id JOIN sae e ON e.id = i.sae_id JOIN model m ON m.id = i.model_id
        JOIN activation_set s ON s.id = i.activation_set_id JOIN dataset t ON t.id = s.dataset_id
    """
    if analysis is None:
        latest = """
            ORDER BY (SELECT max(y.submitted_at) FROM study y JOIN study_job l ON l.study_id = y.id
                      WHERE l.job_id = a.job_id) DESC NULLS LAST, a.id DESC LIMIT 1
        """
        row = session.execute(text(query + latest)).mappings().one_or_none()
    else:
        row = session.execute(text(query + " WHERE a.id = :id"), {"id": analysis}).mappings().one_or_none()
    if row is None:
        which = "no analysis" if analysis is None else f"no analysis {analysis}"
        raise UserError(
            f"there is {which}: see `hsae-admin results layers --study all`, or make one with `hsae-admin submit`"
        )
    return dict(row)


def extraction_of(session: Session, analysis: int) -> tuple[Row, int]:
    """The request of the extraction that gave an analysis' SAE its activations, and their layer.

    Raises:
        UserError: there is no such analysis.
    """
    query = """
        SELECT j.request, i.layer FROM analysis_input i
        JOIN activation_set s ON s.id = i.activation_set_id JOIN job j ON j.id = s.job_id
        WHERE i.analysis_id = :id
    """
    found = session.execute(text(query), {"id": analysis}).one_or_none()
    if found is None:
        raise UserError(f"there is no analysis {analysis}: see `hsae-admin results layers --study all`")
    return dict(found.request), int(found.layer)


def analyses_of_study(session: Session, study_id: int) -> list[Row]:
    """The analyses of a study that exist already, by layer and SAE, with the keys of their activations."""
    query = """
        SELECT i.analysis_id, i.layer, i.sae_kind, i.expansion, i.n_latents, i.sae_seed, i.tokens, i.model, i.dataset,
               i.activation_key
        FROM analysis_input i JOIN study_job s ON s.job_id = i.job_id
        WHERE s.study_id = :id ORDER BY i.layer, i.sae_kind, i.analysis_id
    """
    return [dict(row) for row in session.execute(text(query), {"id": study_id}).mappings()]
