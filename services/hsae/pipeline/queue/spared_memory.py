"""Jobs that ran out of memory on a device: a later attempt begins with as little on it as this one ended with."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import JobEvent, Json

SPARED: Json = {"memory": "spared"}
"""What the event of such an attempt says."""


def was_spared(session: Session, job_id: int) -> bool:
    """Whether an attempt at the job went on with less memory."""
    spared = JobEvent.detail["memory"].astext == SPARED["memory"]
    return session.scalar(select(select(JobEvent.id).where(JobEvent.job_id == job_id, spared).exists())) is True
