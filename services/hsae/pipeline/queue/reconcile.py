"""Recovers lost jobs and messages; every worker runs this at intervals, one worker at a time."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from hsae.catalog import UNSUCCESSFUL_STATES, Job, JobDependency, bound_idling, connect, session_factory, transaction
from hsae.errors import ServiceError
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.notifier import Notification, Notifier
from hsae.settings import Settings

RECONCILER_LOCK = 0x68736165_01
"""Postgres' advisory lock of the one process that looks for lost jobs."""
# A job that has been queued for so long since it last had a message sent may have lost its message.
_OVERDUE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result of one round: jobs to notify workers of, and queued jobs whose message may have been lost."""

    ready: tuple[Notification, ...] = ()
    overdue: tuple[Notification, ...] = ()
    n_notified: Mapping[str, int] = field(default_factory=dict)
    """By queue: queued jobs that a message was sent for, so that each should have a message."""


@dataclass(slots=True)
class _Database:
    """When this process last found the database down, by its monotonic clock."""

    away_at: float = -math.inf


_database = _Database()


def reconcile(settings: Settings, who: str) -> tuple[int, ...]:
    """Take over expired leases and find lost messages; returns the jobs that a message was sent for.

    Raises:
        ServiceError: the database or the broker cannot be reached; the next round tries again.
    """
    engine = connect(settings)
    try:
        # While the database was away (or recovered from a crash) nobody could renew: holders get one lease's time.
        may_expire = time.monotonic() > _database.away_at + settings.lease_seconds
        sessions = session_factory(engine)
        try:
            with transaction(sessions) as session:
                found = repair_queue(session, who, settings, may_expire=may_expire)
        except ServiceError:
            _database.away_at = time.monotonic()
            raise
        if not (found.ready or found.overdue):
            return ()
        try:
            notifications = _notify(Notifier(settings), found)
        except ServiceError:
            with transaction(sessions) as session:
                jobs.mark_unsent(session, found.ready)
            raise
        return tuple(notification.job_id for notification in notifications)
    finally:
        engine.dispose()


def _notify(notifier: Notifier, found: Reconciled) -> tuple[Notification, ...]:
    # Behind a long queue all wait long. A message is lost where there are fewer than jobs that wait for theirs; which
    # one it was nobody knows, and one too many does no harm.
    lacking = {
        queue
        for queue in {notification.queue for notification in found.overdue}
        if notifier.n_messages(queue) < found.n_notified[queue]
    }
    notifications = (*found.ready, *(notification for notification in found.overdue if notification.queue in lacking))
    notifier.notify(notifications)
    return notifications


def repair_queue(
    session: Session, who: str, settings: Settings, *, may_expire: bool = True, grace_seconds: float | None = None
) -> Reconciled:
    """Take over jobs whose lease expired (if `may_expire`), release waiting jobs, find queued ones that never started.

    One worker at a time does it; the others find nothing. For `grace_seconds` (a lease's length) after the database
    starts no lease is taken over, because holders could not renew theirs before.
    """
    if not session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": RECONCILER_LOCK}).scalar_one():
        return Reconciled()
    bound_idling(session, settings.lease_seconds)  # suspended here, this process would keep all others from repair
    if may_expire:
        _expire_leases(session, who, settings.lease_seconds if grace_seconds is None else grace_seconds)
        session.flush()
    _end_hopeless(session, who)
    released = jobs.release_waiting(session, who)
    # In the order of their ids and without waiting, so that it cannot get in the way of a submit or a cancel.
    due = (
        select(Job.id)
        .where(Job.state == "queued", Job.notified_at.is_(None), jobs.is_due())
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
    )
    never_notified = session.scalars(due).all()
    session.execute(update(Job).where(Job.id.in_(never_notified)).values(notified_at=func.now()))
    overdue = session.scalars(
        select(Job.id).where(Job.state == "queued", Job.notified_at < jobs.in_seconds(-_OVERDUE_SECONDS))
    )
    ready = sorted({*released, *never_notified})
    n_notified = session.execute(
        select(Job.queue, func.count().label("n"))
        .where(Job.state == "queued", Job.notified_at.is_not(None), Job.id.not_in(ready))
        .group_by(Job.queue)
    )
    counts = {row.queue: row.n for row in n_notified}
    return Reconciled(jobs.notifications_for(session, ready), jobs.notifications_for(session, overdue), counts)


def _end_hopeless(session: Session, who: str) -> None:
    """End jobs that wait for a failed or cancelled job and were missed when it ended."""
    rows = session.execute(
        select(JobDependency.depends_on_id, Job.id)
        .join(Job, Job.id == JobDependency.job_id)
        .where(Job.state == "waiting")
        .where(JobDependency.depends_on_id.in_(select(Job.id).where(Job.state.in_(UNSUCCESSFUL_STATES))))
        .order_by(Job.id)
    ).all()
    ended: set[int] = set()
    for needed, job_id in rows:
        if job_id not in ended:
            why = f"{jobs.NEEDS_ENDED}{needed}, which has ended without success"
            ended |= set(jobs.end(session, job_id, who, "failed", why))


def _expire_leases(session: Session, who: str, grace_seconds: float) -> None:
    expired = session.execute(
        select(Job.id, Job.owner, Job.fence, Job.attempt, Job.max_attempts)
        .where(
            Job.state == "running",
            Job.lease_expires_at < func.clock_timestamp(),
            # As `may_expire`, for a process that has not seen the outage itself.
            text("pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => :grace)").bindparams(
                grace=grace_seconds
            ),
        )
        .order_by(Job.id)
        .with_for_update(skip_locked=True)
    ).all()
    for job_id, owner, fence, attempt, max_attempts in expired:
        why = f"its worker {owner} stopped answering"
        if attempt >= max_attempts:
            why = f"{why} in attempt {attempt} of {max_attempts}"
            jobs.end(session, job_id, who, "failed", why, reason="lease_expired")
        else:
            jobs.take_back(session, jobs.Lease(job_id, fence, who), why)
