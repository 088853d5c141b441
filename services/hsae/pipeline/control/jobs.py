"""User actions on jobs: cancel them, and run ended ones again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased, sessionmaker

from hsae.catalog import LIVE_STATES, UNSUCCESSFUL_STATES, Job, JobDependency, StudyJob, transaction
from hsae.catalog.server.locks import SUBMIT_LOCK, take_lock
from hsae.errors import ServiceError, UserError
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.kinds.spread.filling import filling
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.notifier import Notification
from hsae.pipeline.upkeep.clean_up import clean_up
from hsae.settings import Settings
from hsae.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Jobs that a cancel ended, with those that waited for them, and jobs that it left alone, with the reason."""

    job_ids: tuple[int, ...]
    left: dict[int, str]
    not_deleted: str | None = None
    """Why partial work could not be deleted, where it could not."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """The result of a retry: jobs that are queued or waiting again, and the notifications to send."""

    job_ids: tuple[int, ...]
    notifications: tuple[Notification, ...]


def cancel(
    sessions: sessionmaker[Session], store: ObjectStore, job_ids: Sequence[int], who: str, *, keep: bool = False
) -> Cancelled:
    """Cancel unfinished jobs and their parts; their partial work is deleted, or kept for a later `retry` with `keep`.

    The worker of a running job notices it within seconds and stops. After this transaction it can publish nothing.

    Raises:
        UserError: there is no such job.
    """
    ended: list[int] = []
    left: dict[int, str] = {}
    with transaction(sessions) as session:
        # A worker holds its part and then wants the extraction: the same order here, or both would wait for ever.
        waiting = session.scalars(select(JobDependency.job_id).where(JobDependency.depends_on_id.in_(job_ids)))
        _lock_live_parts(session, {*job_ids, *waiting})
        for job_id in sorted(job_ids):
            state = _locked(session, job_id).state
            if state in LIVE_STATES:
                ended += jobs.end(session, job_id, who, "cancelled", f"cancelled by {who}")
            elif job_id not in ended:
                left[job_id] = f"it is {state} already"
        for part in _lock_live_parts(session, ended):
            ended += jobs.end(session, part, who, "cancelled", f"cancelled by {who}")
    not_deleted = None
    if not keep:
        # Parts first: what an artifact's folder holds is deleted once nobody stores there any more.
        for job_id in sorted(ended):
            try:
                clean_up(lambda: transaction(sessions), store, job_id, "cancelled")
            except ServiceError as error:
                not_deleted = str(error)
    return Cancelled(tuple(sorted(ended)), left, not_deleted)


def _lock_live_parts(session: Session, job_ids: Collection[int]) -> list[int]:
    """Lock the unfinished jobs that only store objects for these jobs, and for no other unfinished one."""
    dependent = aliased(Job)
    others = (
        select(JobDependency.depends_on_id)
        .join(dependent, dependent.id == JobDependency.job_id)
        .where(dependent.state.in_(LIVE_STATES), dependent.id.not_in(job_ids))
    )
    found = select(Job.id).where(Job.id.in_(filling(job_ids)), Job.state.in_(LIVE_STATES), Job.id.not_in(others))
    return list(session.scalars(found.order_by(Job.id).with_for_update()))


def jobs_of_study(session: Session, study_id: int) -> tuple[list[int], dict[int, str]]:
    """A study's unfinished jobs that no other study needs; and the shared ones, with the studies that need them."""
    other = aliased(StudyJob)
    rows = session.execute(
        select(Job.id, func.min(other.study_id))
        .join(StudyJob, StudyJob.job_id == Job.id)
        .outerjoin(other, (other.job_id == Job.id) & (other.study_id != study_id))
        .where(StudyJob.study_id == study_id, Job.state.in_(LIVE_STATES))
        .group_by(Job.id)
        .order_by(Job.id)
    ).all()
    own = [job_id for job_id, other_study in rows if other_study is None]
    return own, {job_id: f"study {study} needs it, too" for job_id, study in rows if study is not None}


def retry(session: Session, job_ids: Sequence[int], who: str, settings: Settings) -> Requeued:
    """Queue ended jobs again with all their attempts, together with ended jobs that they need or that need them.

    Raises:
        UserError: there is no such job, it has not ended, it succeeded, or another job makes its artifact now.
    """
    # Submits plan over the same rows; both take turns.
    take_lock(session, SUBMIT_LOCK)
    wanted: set[int] = set()
    for job_id in job_ids:
        state = _locked(session, job_id).state
        if state == "succeeded":
            raise UserError(f"job {job_id} has succeeded: there is nothing to try again")
        if state not in UNSUCCESSFUL_STATES:
            raise UserError(f"job {job_id} is {state}: wait for it, or cancel it first")
        wanted |= _with_relatives(session, job_id)
    rows = session.scalars(select(Job).where(Job.id.in_(wanted)).order_by(Job.id).with_for_update()).all()
    for job in rows:
        stage = stage_of(job.kind)
        if stage.changes_hands:
            stage.check_retry(stage.request.model_validate(job.request), job.id, session)
    for job in rows:
        jobs.requeue(job, "waiting")
        job.max_attempts = settings.max_attempts
    session.flush()
    for job in rows:
        if _all_needs_succeeded(session, job.id):
            job.state, job.notified_at = "queued", func.now()
        jobs.record(session, job.id, who, f"tried again by {who}", reason="requeued", state=job.state)
    session.flush()
    notifications = jobs.notifications_for(session, [job.id for job in rows if job.state == "queued"])
    return Requeued(tuple(job.id for job in rows), notifications)


def retry_all(
    session: Session, job_ids: Sequence[int], who: str, settings: Settings
) -> tuple[Requeued, dict[int, str]]:
    """Call `retry` for each job; returns what was queued, and the jobs left alone with the reason."""
    again: dict[int, Notification | None] = {}
    left: dict[int, str] = {}
    for job_id in job_ids:
        if job_id in again:
            continue
        try:
            with session.begin_nested():
                done = retry(session, [job_id], who, settings)
        except UserError as reason:
            left[job_id] = str(reason)
            continue
        again |= dict.fromkeys(done.job_ids) | {
            notification.job_id: notification for notification in done.notifications
        }
    return Requeued(
        tuple(sorted(again)), tuple(notification for notification in again.values() if notification is not None)
    ), left


def _locked(session: Session, job_id: int) -> Job:
    job = session.execute(select(Job).where(Job.id == job_id).with_for_update()).scalar_one_or_none()
    if job is None:
        raise UserError(f"there is no job {job_id}: see `hsae-admin jobs list`")
    return job


def _with_relatives(session: Session, job_id: int) -> set[int]:
    """The job, every ended job that one of these needs, and every job that ended only because one of these did."""
    found, fresh = {job_id}, {job_id}
    while fresh:
        needed = select(JobDependency.depends_on_id).where(JobDependency.job_id.in_(fresh))
        dependent = select(JobDependency.job_id).where(JobDependency.depends_on_id.in_(fresh))
        relatives = select(Job.id).where(
            Job.state.in_(UNSUCCESSFUL_STATES),
            or_(Job.id.in_(needed), Job.id.in_(dependent) & Job.error.startswith(jobs.NEEDS_ENDED)),
        )
        fresh = set(session.scalars(relatives)) - found
        found |= fresh
    return found


def _all_needs_succeeded(session: Session, job_id: int) -> bool:
    missing = session.scalar(
        select(func.count())
        .select_from(JobDependency)
        .join(Job, Job.id == JobDependency.depends_on_id)
        .where(JobDependency.job_id == job_id, Job.state != "succeeded")
    )
    return missing == 0
