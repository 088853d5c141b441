"""Queries of the command line about jobs; each returns plain rows."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError

_JOBS = """
SELECT j.id, j.kind, j.title, j.state, j.queue, j.priority, j.attempt, j.max_attempts, j.outages, j.owner,
       j.created_at, j.started_at, j.finished_at, j.not_before, j.gpu_memory_bytes,
       j.progress_done, j.progress_total, j.progress_unit, j.progress_rate, j.progress_note, j.error, j.result,
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


def find_job(session: Session, job_id: int) -> Row:
    """One job, as a listing has it.

    Raises:
        UserError: there is no such job.
    """
    row = session.execute(text(_JOBS + " WHERE j.id = :id"), {"id": job_id}).mappings().one_or_none()
    if row is None:
        raise UserError(f"there is no job {job_id}: see `hsae-admin jobs list`")
    return dict(row)


def show_job(session: Session, job_id: int) -> tuple[Row, list[Row]]:
    """One job with its request and dependencies, and its history.

    Raises:
        UserError: there is no such job.
    """
    job = find_job(session, job_id)
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
    """Number and title of the job that was started last; if none was started yet, of the last one entered."""
    query = "SELECT id, title FROM job ORDER BY started_at DESC NULLS LAST, id DESC LIMIT 1"
    return next((dict(row) for row in session.execute(text(query)).mappings()), None)


def needed_jobs(session: Session, job_id: int) -> list[Row]:
    """The jobs that a job depends on: id, state, title."""
    query = """
        SELECT j.id, j.state, j.title FROM job j JOIN job_dependency d ON d.depends_on_id = j.id
        WHERE d.job_id = :id ORDER BY j.id
    """
    return [dict(row) for row in session.execute(text(query), {"id": job_id}).mappings()]
