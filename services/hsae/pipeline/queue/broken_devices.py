"""Jobs whose device broke under them: the worker that it happened to must not take them again.

A device that passes a quick test may fail once more under the same work, and use up the job's attempts.
"""

from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from hsae.catalog import Job, JobEvent, Json

_WORKER = "broken_device_of"


def event_detail(owner: str) -> Json:
    """What the event of an attempt says whose device broke, given the owner of its lease."""
    return {_WORKER: _worker_of(owner)}


def met_here(job_id: int, owner: str) -> Any:
    """The condition that the job met a broken device on the owner's worker."""
    of_worker = JobEvent.detail[_WORKER].astext == _worker_of(owner)
    return select(JobEvent.id).where(JobEvent.job_id == job_id, of_worker).exists()


def leave_to_others(session: Session, job_id: int, owner: str) -> bool:
    """Have another message sent for a queued job that the owner's worker cannot take for that reason.

    Returns:
        Whether it is such a job.
    """
    result = session.execute(
        update(Job).where(Job.id == job_id, Job.state == "queued", met_here(job_id, owner)).values(notified_at=None)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 -- narrows the type
    return bool(result.rowcount)


def _worker_of(owner: str) -> str:
    """The worker of a lease's owner: all but the number of its process, which is another one after every crash."""
    return owner.rpartition(":")[0] or owner
