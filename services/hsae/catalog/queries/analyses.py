"""One analysis with everything that it was made from."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError


def find_analysis(session: Session, analysis: int | None) -> Row:
    """An analysis with everything that names its inputs; None takes the last one of the study submitted last.

    Raises:
        UserError: when there is none.
    """
    query = """
        SELECT a.id, a.key, a.config, a.n_images, a.activations_sha256, a.class_sums_sha256, a.dataset_id,
               d.name AS dataset, e.key AS sae_key, e.kind AS sae_kind, e.expansion, e.config AS sae_config,
               e.metrics AS sae_metrics, e.weights_sha256, e.n_latents, s.layer, s.tokens, m.name AS model,
               m.revision, m.preprocessing, m.d_model
        FROM analysis a JOIN sae e ON e.id = a.sae_id JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id JOIN dataset d ON d.id = a.dataset_id
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
