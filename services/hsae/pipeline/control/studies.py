"""Removes a study from the catalog; the results of its jobs stay, for other studies and for later submits."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, aliased

from hsae.catalog import Study, StudyJob
from hsae.catalog.queries.studies import require_study
from hsae.catalog.server.locks import SUBMIT_LOCK, take_lock
from hsae.errors import UserError
from hsae.pipeline.control.jobs import jobs_of_study


@dataclass(frozen=True, slots=True)
class RemovedStudy:
    """A removed study: how many of its jobs other studies need, and how many none needs now."""

    id: int
    name: str
    n_shared_jobs: int
    n_own_jobs: int


def remove_study(session: Session, study_id: int) -> RemovedStudy:
    """Delete the study's row and its links to jobs.

    Raises:
        UserError: there is no such study, or jobs that only it needs are not finished.
    """
    # Submits plan over the same rows; both take turns.
    take_lock(session, SUBMIT_LOCK)
    require_study(session, study_id)
    live, _ = jobs_of_study(session, study_id)
    if live:
        jobs = f"job {live[0]} is" if len(live) == 1 else f"{len(live)} jobs are"
        raise UserError(
            f"study {study_id} is not done: {jobs} waiting, queued or running for it alone; wait for it, or first"
            f" `hsae-admin jobs cancel --study {study_id}`"
        )
    other = aliased(StudyJob)
    elsewhere = select(other.job_id).where(other.study_id != study_id)
    of_study = select(func.count()).select_from(StudyJob).where(StudyJob.study_id == study_id)
    n_jobs = session.scalars(of_study).one()
    n_shared = session.scalars(of_study.where(StudyJob.job_id.in_(elsewhere))).one()
    name = session.scalars(delete(Study).where(Study.id == study_id).returning(Study.name)).one()
    return RemovedStudy(study_id, name, n_shared, n_jobs - n_shared)
