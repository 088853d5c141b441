"""Which jobs store objects of the artifacts that other jobs publish."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import CompoundSelect, Select, select

from hsae.catalog import Job, JobDependency
from hsae.pipeline.kinds.registry import stages


def filling(job_ids: Collection[int] | Select[Any] | CompoundSelect[Any]) -> Select[Any]:
    """Selects the ids of the jobs that only store objects for these jobs (`Stage.fills`)."""
    kinds = [stage.kind for stage in stages() if stage.fills is not None]
    needed = select(JobDependency.depends_on_id).join(Job, Job.id == JobDependency.depends_on_id)
    return needed.where(JobDependency.job_id.in_(job_ids), Job.kind.in_(kinds))
