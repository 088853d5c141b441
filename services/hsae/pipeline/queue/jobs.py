"""Changes to a job in Postgres by its holder: claim, renew, finish, fail, hand back.

States: waiting -> queued -> running -> succeeded | failed | cancelled; an attempt that ends early takes a running job
back to queued. Every change is one conditional UPDATE plus an event row in the caller's transaction. All times are the
database's, so the workers' clocks do not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from hsae.catalog import Job, JobDependency, JobEvent, Json
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.logs import redact
from hsae.pipeline.queue import broken_devices
from hsae.pipeline.queue.notifier import Notification

_MAX_PAUSE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for a job, valid as long as `fence` is the job's latest."""

    job_id: int
    fence: int
    owner: str


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job and the lease that its worker holds."""

    lease: Lease
    kind: str
    title: str
    request: Json
    attempt: int
    max_attempts: int
    checkpoint: Json | None


def record(
    session: Session,
    job_id: int,
    who: str,
    message: str,
    *,
    reason: str = "remark",
    state: str | None = None,
    detail: Json | None = None,
) -> None:
    """Add an event to the job's history; `reason` is one of `EVENT_REASONS`."""
    session.add(JobEvent(job_id=job_id, who=who, message=redact(message), reason=reason, state=state, detail=detail))


# Leases use the wall clock, not now(), which is the transaction's start: an update may have waited for a lock.
def in_seconds(value: float) -> Any:
    """The database's time in `value` seconds."""
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, value)


def is_due() -> Any:
    """True for a job that waits for no pause (any more)."""
    return or_(Job.not_before.is_(None), Job.not_before <= func.clock_timestamp())


def claim(session: Session, job_id: int, owner: str, lease_seconds: float) -> ClaimedJob | None:
    """Take a queued job; None if it is not queued (a duplicate or late message), or waits: a pause, another worker."""
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == "queued", is_due(), ~broken_devices.met_here(job_id, owner))
        .values(
            state="running",
            owner=owner,
            fence=Job.fence + 1,
            attempt=Job.attempt + 1,
            started_at=func.now(),
            not_before=None,
            lease_expires_at=in_seconds(lease_seconds),
            progress_done=None,
            progress_total=None,
            progress_unit=None,
            progress_rate=None,
            progress_note=None,
            gpu_memory_bytes=None,
        )
        .returning(Job.fence, Job.kind, Job.title, Job.request, Job.attempt, Job.max_attempts, Job.checkpoint)
    ).one_or_none()
    if row is None:
        return None
    record(session, job_id, owner, f"attempt {row.attempt} of {row.max_attempts}", reason="claimed", state="running")
    return ClaimedJob(Lease(job_id, row.fence, owner), *row[1:])


def hold(session: Session, lease: Lease) -> None:
    """Lock the job's row for this transaction, so that only the lease's holder writes in it.

    Raises:
        JobCancelledError: the job was cancelled.
        LeaseLostError: it was taken over or has finished.
    """
    state, fence = session.execute(select(Job.state, Job.fence).where(Job.id == lease.job_id).with_for_update()).one()
    if state == "cancelled":
        raise JobCancelledError(f"job {lease.job_id} was cancelled")
    if state != "running" or fence != lease.fence:
        raise LeaseLostError(f"job {lease.job_id} is {state} at fence {fence}; this worker's was {lease.fence}")


def renew(session: Session, lease: Lease, lease_seconds: float, progress: Json) -> str | None:
    """Extend the lease and store progress; returns None, or the job's state if the lease is lost."""
    result = session.execute(
        update(Job)
        .where(Job.id == lease.job_id, Job.fence == lease.fence, Job.state == "running")
        .values(lease_expires_at=in_seconds(lease_seconds), **progress)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 -- narrows the type
    if result.rowcount:
        return None
    return session.execute(select(Job.state).where(Job.id == lease.job_id)).scalar_one()


def succeed(session: Session, lease: Lease, result: Json, progress: Json | None = None) -> list[int]:
    """Finish a held job and store its last progress; returns the ids of the jobs that may start now."""
    session.execute(
        update(Job)
        .where(Job.id == lease.job_id)
        .values(
            state="succeeded",
            result=result,
            error=None,
            checkpoint=null(),
            finished_at=func.now(),
            lease_expires_at=None,
            **(progress or {}),
        )
    )
    record(session, lease.job_id, lease.owner, "finished", reason="succeeded", state="succeeded", detail=result)
    session.flush()
    return release_waiting(session, lease.owner)


def fail(session: Session, lease: Lease, error: str) -> None:
    """Fail a held job for good: another attempt would end the same way."""
    end(session, lease.job_id, lease.owner, "failed", error)


def retry_after_crash(
    session: Session, lease: Lease, error: str, retry_seconds: float, detail: Json | None = None
) -> bool:
    """End a held attempt that crashed; the job is queued again while attempts are left. Returns whether it was."""
    attempt, max_attempts = session.execute(select(Job.attempt, Job.max_attempts).where(Job.id == lease.job_id)).one()
    if attempt >= max_attempts:
        end(session, lease.job_id, lease.owner, "failed", f"{error} (attempt {attempt} of {max_attempts})")
        return False
    _queue_again(session, lease.job_id, error, pause_seconds=_pause(retry_seconds, attempt))
    record(session, lease.job_id, lease.owner, error, reason="retried", state="queued", detail=detail)
    return True


def retry_after_outage(session: Session, lease: Lease, error: str, retry_seconds: float, max_outages: int) -> bool:
    """End a held attempt because a service is down; it is not counted. Returns whether the job is queued again."""
    outages = session.execute(select(Job.outages).where(Job.id == lease.job_id)).scalar_one() + 1
    if outages > max_outages:
        end(session, lease.job_id, lease.owner, "failed", error)
        return False
    _queue_again(session, lease.job_id, error, pause_seconds=_pause(retry_seconds, outages), uncounted=True)
    session.execute(update(Job).where(Job.id == lease.job_id).values(outages=outages))
    record(session, lease.job_id, lease.owner, error, reason="outage", state="queued")
    return True


def hand_back(session: Session, lease: Lease, why: str) -> None:
    """Queue a held job again, because its worker is stopping; the attempt is not counted and the checkpoint is kept."""
    _queue_again(session, lease.job_id, None, uncounted=True)
    record(session, lease.job_id, lease.owner, why, reason="handed_back", state="queued")


def take_back(session: Session, lease: Lease, why: str) -> None:
    """Queue a job again whose lease expired; the attempt counts, because the job may have killed its worker."""
    _queue_again(session, lease.job_id, why)
    record(session, lease.job_id, lease.owner, why, reason="lease_expired", state="queued")


def wait_for(session: Session, lease: Lease, needed: int, why: str, *, uncounted: bool) -> list[int]:
    """Let a held job wait for another job, whose artifact it needs again; returns the ids of released jobs.

    `uncounted`: the attempt is not counted.
    """
    session.execute(insert(JobDependency).values(job_id=lease.job_id, depends_on_id=needed).on_conflict_do_nothing())
    _queue_again(session, lease.job_id, why, state="waiting", uncounted=uncounted)
    record(session, lease.job_id, lease.owner, why, reason="requeued", state="waiting")
    session.flush()
    return release_waiting(session, lease.owner)


def held_by(session: Session, owner_prefix: str) -> list[Lease]:
    """The leases of one worker, by the start of its owner's name; the rows of their jobs are locked."""
    rows = session.execute(
        select(Job.id, Job.fence, Job.owner)
        .where(Job.state == "running", func.starts_with(Job.owner, owner_prefix))
        .order_by(Job.id)
        .with_for_update()
    )
    return [Lease(job_id, fence, owner or "") for job_id, fence, owner in rows]


def _pause(retry_seconds: float, n: int) -> float:
    """Seconds before the next attempt after `n` attempts that ended early."""
    return min(retry_seconds * 2.0 ** min(n - 1, 30), _MAX_PAUSE_SECONDS)


def _queue_again(
    session: Session,
    job_id: int,
    error: str | None,
    *,
    state: str = "queued",
    pause_seconds: float = 0.0,
    uncounted: bool = False,
) -> None:
    values: Json = {} if error is None else {"error": redact(error)}
    if uncounted:
        values["attempt"] = Job.attempt - 1
    if pause_seconds > 0:
        values["not_before"] = in_seconds(pause_seconds)
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(state=state, owner=None, lease_expires_at=None, notified_at=None, **values)
    )


def requeue(job: Job, state: str) -> None:
    """Put an ended job back to `state`, with all of its attempts."""
    job.state, job.attempt, job.outages = state, 0, 0
    job.error = job.finished_at = job.owner = job.not_before = job.notified_at = None


NEEDS_ENDED = "needs job "
"""How the error of a job begins that ended only because another one did."""


def end(session: Session, job_id: int, who: str, state: str, error: str, *, reason: str | None = None) -> list[int]:
    """Fail or cancel (`state`) a job and everything that waits for it; returns the ids of all of them."""
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(state=state, error=redact(error), finished_at=func.now(), lease_expires_at=None, not_before=None)
    )
    record(session, job_id, who, error, reason=reason or state, state=state)
    waiting = session.scalars(
        select(Job.id)
        .join(JobDependency, JobDependency.job_id == Job.id)
        .where(JobDependency.depends_on_id == job_id, Job.state == "waiting")
        .order_by(Job.id)
    ).all()
    verb = "failed" if state == "failed" else "was cancelled"
    ended = [job_id]
    for dependent in waiting:
        if dependent not in ended:  # it may also need a job that one of the others has just ended
            ended += end(session, dependent, who, state, f"{NEEDS_ENDED}{job_id}, which {verb}")
    return ended


def release_waiting(session: Session, who: str) -> list[int]:
    """Queue every waiting job whose dependencies have all succeeded."""
    unfinished = (
        select(JobDependency.job_id)
        .join(Job, Job.id == JobDependency.depends_on_id)
        .where(Job.state != "succeeded")
        .scalar_subquery()
    )
    released = session.scalars(
        update(Job)
        .where(Job.state == "waiting", Job.id.not_in(unfinished))
        .values(state="queued", notified_at=func.now())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    for job_id in released:
        record(session, job_id, who, "every job it waited for has finished", reason="released", state="queued")
    return sorted(released)


def mark_unsent(session: Session, notifications: Iterable[Notification]) -> None:
    """Note that the messages of these jobs could not be sent: the next reconciler sends them."""
    job_ids = [notification.job_id for notification in notifications]
    session.execute(update(Job).where(Job.id.in_(job_ids), Job.state == "queued").values(notified_at=None))


def notifications_for(session: Session, job_ids: Iterable[int]) -> tuple[Notification, ...]:
    """The notifications that these jobs need."""
    columns = (Job.id, Job.queue, Job.priority, Job.kind, Job.title)
    rows = session.execute(select(*columns).where(Job.id.in_(list(job_ids))).order_by(Job.id))
    return tuple(Notification(*row) for row in rows)
