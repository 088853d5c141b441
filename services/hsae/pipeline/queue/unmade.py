"""Jobs that succeeded and whose artifact is gone."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, func, null, update
from sqlalchemy.orm import Session

from hsae.catalog import Job
from hsae.pipeline.queue import jobs


def fail_succeeded(session: Session, job_ids: Collection[int] | Select[Any], who: str, reason: str) -> None:
    """Fail those of these jobs that succeeded, so that the next submit runs them again."""
    failed = session.scalars(
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == "succeeded")
        .values(state="failed", error=reason, result=null(), finished_at=func.now())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    for job_id in failed:
        jobs.record(session, job_id, who, reason, reason="failed", state="failed")
