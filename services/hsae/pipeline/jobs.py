"""The life of a job in Postgres: queue, claim, renew, finish, take over.

States: waiting -> queued -> running -> succeeded | failed | cancelled; a running job whose lease ran out goes back to
queued. Every change is one conditional UPDATE plus an event row in the caller's transaction. All times are the
database's, so clocks of workers do not matter.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CursorResult, func, select, text, update
from sqlalchemy.orm import Session

from hsae.catalog import Job, JobDependency, JobEvent, Json
from hsae.errors import LeaseLostError

_RECONCILER_LOCK = 0x68736165_01
_OVERDUE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for a job, as long as `fence` is the job's latest."""

    job_id: int
    fence: int
    owner: str


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job and the lease its worker holds on it."""

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
    state: str | None = None,
    detail: Json | None = None,
) -> None:
    """Add an event to the job's history."""
    session.add(JobEvent(job_id=job_id, who=who, message=message, state=state, detail=detail))


# Leases use the wall clock, not now(), which is the transaction's start: an update may have waited for a lock.
def _seconds(value: float) -> Any:
    return func.make_interval(0, 0, 0, 0, 0, 0, value)


def claim(session: Session, job_id: int, owner: str, lease_seconds: float) -> ClaimedJob | None:
    """Take a queued job; None when it is not queued any more (a doubled or late message)."""
    row = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == "queued")
        .values(
            state="running",
            owner=owner,
            fence=Job.fence + 1,
            attempt=Job.attempt + 1,
            started_at=func.now(),
            lease_expires_at=func.clock_timestamp() + _seconds(lease_seconds),
            progress_done=None,
            progress_total=None,
            progress_unit=None,
            progress_rate=None,
        )
        .returning(Job.fence, Job.kind, Job.title, Job.request, Job.attempt, Job.max_attempts, Job.checkpoint)
    ).one_or_none()
    if row is None:
        return None
    record(session, job_id, owner, f"attempt {row.attempt} of {row.max_attempts}", state="running")
    return ClaimedJob(Lease(job_id, row.fence, owner), *row[1:])


def hold(session: Session, lease: Lease) -> None:
    """Lock the job's row for this transaction; whatever is written in it is written by the lease's holder.

    Raises:
        LeaseLostError: when the job was taken over, cancelled or finished.
    """
    state, fence = session.execute(select(Job.state, Job.fence).where(Job.id == lease.job_id).with_for_update()).one()
    if state != "running" or fence != lease.fence:
        raise LeaseLostError(f"job {lease.job_id} is {state} at fence {fence}; this worker's was {lease.fence}")


def renew(session: Session, lease: Lease, lease_seconds: float, progress: Json) -> str | None:
    """Extend the lease and store progress; returns None, or the job's state when the lease is lost."""
    result = session.execute(
        update(Job)
        .where(Job.id == lease.job_id, Job.fence == lease.fence, Job.state == "running")
        .values(lease_expires_at=func.clock_timestamp() + _seconds(lease_seconds), **progress)
    )
    assert isinstance(result, CursorResult)  # noqa: S101 -- narrows the type
    if result.rowcount:
        return None
    return session.execute(select(Job.state).where(Job.id == lease.job_id)).scalar_one()


def succeed(session: Session, lease: Lease, result: Json) -> list[int]:
    """Finish a held job; returns the ids of waiting jobs that are queued by it."""
    session.execute(
        update(Job)
        .where(Job.id == lease.job_id)
        .values(
            state="succeeded",
            result=result,
            error=None,
            checkpoint=None,
            finished_at=func.now(),
            lease_expires_at=None,
            progress_done=Job.progress_total,
        )
    )
    record(session, lease.job_id, lease.owner, "finished", state="succeeded", detail=result)
    session.flush()
    return _release_waiting(session, lease.owner)


def fail(session: Session, lease: Lease, error: str, *, again: bool, later: bool = False) -> bool:
    """End a held attempt; with `again` the job is queued anew while attempts are left. Returns whether it was.

    With `later` it is rung for as an overdue job would be, half a minute from now, rather than at once.
    """
    attempt, max_attempts = session.execute(select(Job.attempt, Job.max_attempts).where(Job.id == lease.job_id)).one()
    if again and attempt < max_attempts:
        session.execute(
            update(Job)
            .where(Job.id == lease.job_id)
            .values(
                state="queued",
                error=error,
                owner=None,
                lease_expires_at=None,
                notified_at=func.now() if later else None,
            )
        )
        record(session, lease.job_id, lease.owner, error, state="queued")
        return True
    _fail_for_good(session, lease.job_id, lease.owner, error)
    return False


def _fail_for_good(session: Session, job_id: int, who: str, error: str) -> None:
    """Fail a job and everything that waits for it."""
    session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(state="failed", error=error, finished_at=func.now(), lease_expires_at=None)
    )
    record(session, job_id, who, error, state="failed")
    waiting = session.scalars(
        select(Job.id)
        .join(JobDependency, JobDependency.job_id == Job.id)
        .where(JobDependency.depends_on_id == job_id, Job.state == "waiting")
    ).all()
    for dependent in waiting:
        _fail_for_good(session, dependent, who, f"needs job {job_id}, which failed")


def _release_waiting(session: Session, who: str) -> list[int]:
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
        record(session, job_id, who, "every job it waited for has finished", state="queued")
    return sorted(released)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a round of mending found: jobs to ring for, and queued jobs whose message may have been lost."""

    ready: tuple[int, ...] = ()
    overdue: tuple[int, ...] = ()


def reconcile(session: Session, who: str) -> Reconciled:
    """Mend what was lost: take over jobs whose lease ran out, release waiting jobs, find queued ones never started.

    One worker at a time does it.
    """
    if not session.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _RECONCILER_LOCK}).scalar_one():
        return Reconciled()
    expired = session.execute(
        select(Job.id, Job.owner, Job.attempt, Job.max_attempts)
        .where(Job.state == "running", Job.lease_expires_at < func.clock_timestamp())
        .with_for_update(skip_locked=True)
    ).all()
    for job_id, owner, attempt, max_attempts in expired:
        reason = f"its worker {owner} stopped answering"
        if attempt >= max_attempts:
            _fail_for_good(session, job_id, who, f"{reason} in attempt {attempt} of {max_attempts}")
            continue
        session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(state="queued", error=reason, owner=None, lease_expires_at=None, notified_at=None)
        )
        record(session, job_id, who, reason, state="queued")
    session.flush()
    released = _release_waiting(session, who)
    never_rung = session.scalars(
        update(Job)
        .where(Job.state == "queued", Job.notified_at.is_(None))
        .values(notified_at=func.now())
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    ).all()
    overdue = session.scalars(
        select(Job.id)
        .where(Job.state == "queued", Job.notified_at < func.now() - _seconds(_OVERDUE_SECONDS))
        .order_by(Job.id)
    ).all()
    return Reconciled(tuple(sorted({*released, *never_rung})), tuple(overdue))
