"""The questions that the command line asks of the catalog; each returns plain rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.conditions import Row, equalities, of_nodes
from hsae.catalog.control_queries import add_controls
from hsae.catalog.results import BASES
from hsae.errors import UserError

_JOBS = """
SELECT j.id, j.kind, j.title, j.state, j.queue, j.priority, j.attempt, j.max_attempts, j.outages, j.owner,
       j.created_at, j.started_at, j.finished_at, j.not_before, j.gpu_memory_bytes,
       j.progress_done, j.progress_total, j.progress_unit, j.progress_rate, j.error, j.result,
       CASE WHEN j.state = 'queued' AND j.not_before > clock_timestamp()
            THEN extract(epoch FROM j.not_before - clock_timestamp())::double precision END AS pause_seconds,
       CASE WHEN j.state = 'running' AND j.progress_rate > 0
            THEN (j.progress_total - j.progress_done) / j.progress_rate END AS eta_seconds,
       extract(epoch FROM coalesce(j.finished_at, now()) - j.started_at) AS seconds
FROM job j
"""


def list_jobs(
    session: Session, *, study_id: int | None = None, states: tuple[str, ...] = (), limit: int | None = None
) -> list[Row]:
    """Jobs, oldest first (the latest `limit`), of one study or of all."""
    where, values = [], {}
    if study_id is not None:
        where.append("j.id IN (SELECT job_id FROM study_job WHERE study_id = :study)")
        values["study"] = study_id
    if states:
        where.append("j.state = ANY(:states)")
        values["states"] = list(states)  # type: ignore[assignment]
    query = _JOBS + (f" WHERE {' AND '.join(where)}" if where else "") + " ORDER BY j.id DESC"
    if limit is not None:
        query += f" LIMIT {limit:d}"
    return [dict(row) for row in reversed(session.execute(text(query), values).mappings().all())]


def show_job(session: Session, job_id: int) -> tuple[Row, list[Row]]:
    """One job with its request and dependencies, and its history.

    Raises:
        UserError: when there is no such job.
    """
    row = session.execute(text(_JOBS + " WHERE j.id = :id"), {"id": job_id}).mappings().one_or_none()
    if row is None:
        raise UserError(f"there is no job {job_id}: see `hsae-admin jobs list`")
    job = dict(row)
    job |= dict(
        session.execute(
            text(
                "SELECT key, request, ARRAY(SELECT depends_on_id FROM job_dependency WHERE job_id = :id ORDER BY 1)"
                " AS depends_on FROM job WHERE id = :id"
            ),
            {"id": job_id},
        )
        .mappings()
        .one()
    )
    events = session.execute(
        text("SELECT at, state, reason, who, message, detail FROM job_event WHERE job_id = :id ORDER BY id"),
        {"id": job_id},
    )
    return job, [dict(event) for event in events.mappings()]


def latest_job(session: Session) -> Row | None:
    """Number and title of the job that was started last, or, before any was, of the last one entered."""
    query = "SELECT id, title FROM job ORDER BY started_at DESC NULLS LAST, id DESC LIMIT 1"
    return next((dict(row) for row in session.execute(text(query)).mappings()), None)


def needed_jobs(session: Session, job_id: int) -> list[Row]:
    """The jobs that a job depends on: id, state, title."""
    query = """
        SELECT j.id, j.state, j.title FROM job j JOIN job_dependency d ON d.depends_on_id = j.id
        WHERE d.job_id = :id ORDER BY j.id
    """
    return [dict(row) for row in session.execute(text(query), {"id": job_id}).mappings()]


def layer_rows(session: Session, analysis_ids: Sequence[int] | None = None, **wanted: Any) -> list[Row]:
    """Rows of layer_progress, by SAE kind, layer and basis (the SAE first)."""
    where, values = equalities(analysis_ids, **wanted)
    query = f"""
        SELECT v.* FROM layer_progress v WHERE {where}
        ORDER BY v.model, v.dataset, v.tokens, v.sae_kind, v.layer, v.analysis_id,
                 array_position(CAST(:bases AS text[]), v.basis)
    """  # noqa: S608 -- column names come from this package, values are bound
    values["bases"] = list(BASES)
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latent_rows(
    session: Session,
    *,
    min_f1: float,
    limit: int,
    nodes: Sequence[int] | None = None,
    under: Sequence[int] | None = None,
    max_q: float | None = None,
    analysis_ids: Sequence[int] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Rows of latent_label by falling F1.

    `nodes` keeps those labelled with one of these synsets, `under` those labelled with a synset at or below one of
    them, `max_q` those whose q-value at the label is at most that. Latents of the SAE have beside their F1 what its
    controls reach at the label (`add_controls`).
    """
    where, values = equalities(analysis_ids, **wanted)
    where += of_nodes(nodes, under, values, all_rows=max_q is not None)
    query = f"SELECT v.* FROM latent_label v WHERE {where} AND v.f1 >= :min_f1"  # noqa: S608
    order = "ORDER BY v.f1 DESC, v.analysis_id, v.latent"
    if max_q is not None:
        # The label's q is looked up row by row, and only as far down as the limit asks: OFFSET 0 keeps the planner from
        # looking up those that no other condition leaves.
        if nodes is not None or under is not None:
            query = f"SELECT v.* FROM ({query} {order} OFFSET 0) v WHERE true"  # noqa: S608
        query += """ AND (SELECT r.q FROM node_score r WHERE r.analysis_id = v.analysis_id AND r.basis = v.basis
                     AND r.seed = 0 AND r.latent = v.latent AND r.synset_id = v.synset_id) <= :max_q"""
        values["max_q"] = max_q
    values |= {"min_f1": min_f1, "limit": limit}
    found = [dict(row) for row in session.execute(text(f"{query} {order} LIMIT :limit"), values).mappings()]
    add_controls(session, found)
    return found


def node_rows(
    session: Session,
    *,
    min_f1: float,
    limit: int,
    nodes: Sequence[int] | None = None,
    under: Sequence[int] | None = None,
    max_q: float | None = None,
    analysis_ids: Sequence[int] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Rows of node_best_latent by falling F1; `nodes` keeps these synsets, `under` those at or below one of them.

    Rows of the SAE have beside their F1 what its controls reach at the node (`add_controls`).
    """
    where, values = equalities(analysis_ids, **wanted)
    where += of_nodes(nodes, under, values)
    if max_q is not None:
        where += " AND v.q <= :max_q"
        values["max_q"] = max_q
    query = f"""
        SELECT v.* FROM node_best_latent v WHERE {where} AND v.f1 >= :min_f1
        ORDER BY v.f1 DESC, v.analysis_id, v.synset LIMIT :limit
    """  # noqa: S608
    values |= {"min_f1": min_f1, "limit": limit}
    found = [dict(row) for row in session.execute(text(query), values).mappings()]
    add_controls(session, found)
    return found


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
