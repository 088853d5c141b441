"""Lost or damaged objects of finished jobs: the job that made one runs again, and the job that needs it waits.

Stages are deterministic, so the new object has the same bits, and everything derived from it stays valid.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import LIVE_STATES, Job, transaction
from hsae.catalog.server.locks import SUBMIT_LOCK, take_lock
from hsae.errors import UserError
from hsae.pipeline.kinds.activation_sets.dropped import dropped_error, dropped_set
from hsae.pipeline.kinds.registry import stage_of_folder
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.notifier import Notification
from hsae.pipeline.queue.unmade import fail_succeeded
from hsae.pipeline.upkeep.integrity import find_lost
from hsae.store.faults import ActivationsDroppedError, ObjectCorruptError, ObjectMissingError
from hsae.store.keys import artifact_of

if TYPE_CHECKING:  # it loads torch, and commands read this file
    from hsae.pipeline.stages.context import StageContext


def forget_object(session: Session, object_key: str, who: str, reason: str) -> None:
    """Fail the job that made `object_key`, so that the next submit runs it again.

    Rows from which the job would conclude that the object exists are deleted, too. What was dropped is not lost.
    """
    maker = _maker_of(session, object_key)
    if maker is None or dropped_set(session, object_key) is not None:
        return
    state = session.execute(select(Job.state).where(Job.id == maker).with_for_update()).scalar_one()
    if state != "running":
        _forget_rows(session, object_key)
    fail_succeeded(session, [maker], who, reason)


@contextmanager
def losses_noted(sessions: sessionmaker[Session], who: str) -> Iterator[None]:
    """Where the block misses an object, fail the job that made it, so that the next submit makes it again.

    For programs that are no job. Who may only read the catalog, or finds it away, gets the same error without that.

    Args:
        sessions: of the catalog.
        who: for the job's history.

    Raises:
        ObjectMissingError, ObjectCorruptError: as in the block; ActivationsDroppedError: they were dropped meanwhile.
    """
    try:
        yield
    except (ObjectMissingError, ObjectCorruptError) as loss:
        dropped = None
        with suppress(UserError), transaction(sessions) as session:
            dropped = dropped_set(session, loss.key)
            forget_object(session, loss.key, who, str(loss))
        if dropped is not None:
            raise dropped_error(dropped, loss.bucket) from loss
        raise


def wait_for_maker(
    context: "StageContext", job: jobs.ClaimedJob, loss: ObjectMissingError | ObjectCorruptError
) -> tuple[Notification, ...] | None:
    """Let the running `job` wait until the lost object is made again; returns the notifications to send.

    Everything else that is lost of the same artifact is made again in the same run. The job's attempt counts, so that a
    disk which keeps losing objects ends in an error and not in a loop. It does not count if the maker runs again
    already, nor where its input was dropped: no job of a study needed it.

    Returns:
        None if the job cannot wait: no job makes the object, its maker was cancelled, or no attempt is left.

    Raises:
        ServiceError: the object store or the database cannot be reached.
        LeaseLostError, JobCancelledError, WorkerStoppingError: the job is no longer this worker's, or soon will not be.
    """
    lost = {loss.key: loss.fact, **_others_lost(context, loss.key)}
    with context.reading() as session:
        # Submits and retries lock rows of jobs in the order of their ids; all take turns.
        take_lock(session, SUBMIT_LOCK)
        maker_id = _maker_of(session, loss.key)
        if maker_id in (None, job.lease.job_id):
            return None
        both = select(Job).where(Job.id.in_((maker_id, job.lease.job_id))).order_by(Job.id).with_for_update()
        (maker,) = (row for row in session.scalars(both).all() if row.id == maker_id)
        jobs.hold(session, job.lease)
        if maker.state == "cancelled":
            return None
        # What was made since this attempt began was perhaps read before.
        made_since = maker.state == "succeeded" and _ended_since(session, maker.id, job.lease.job_id)
        was_dropped = isinstance(loss, ActivationsDroppedError)
        counts = maker.state not in LIVE_STATES and not made_since and not was_dropped
        if counts and job.attempt >= job.max_attempts:
            return None
        again = [] if made_since else _make_again(session, maker, lost, job.lease.owner)
        why = f"{loss.fact}: job {maker.id} makes it again"
        released = jobs.wait_for(session, job.lease, maker.id, why, uncounted=not counts)
        return jobs.notifications_for(session, [*again, *released])


def make_again(session: Session, lost: Mapping[str, str], who: str) -> list[int]:
    """Queue the jobs again that made the objects of `lost` (key: the fault); returns their ids.

    Jobs under way are left alone, and so are objects that no job makes.
    """
    take_lock(session, SUBMIT_LOCK)
    by_maker: dict[int, dict[str, str]] = {}
    for key, fault in lost.items():
        maker_id = _maker_of(session, key)
        if maker_id is not None:
            by_maker.setdefault(maker_id, {})[key] = fault
    makers = session.scalars(select(Job).where(Job.id.in_(by_maker)).order_by(Job.id).with_for_update())
    return [job_id for maker in makers for job_id in _make_again(session, maker, by_maker[maker.id], who)]


def _make_again(session: Session, maker: Job, lost: Mapping[str, str], who: str) -> list[int]:
    """The maker's id if this queues it. Its row is locked, and no submit runs at the same time."""
    if maker.state == "running":  # it has read its rows already; whoever still misses the object comes again
        return []
    for key in lost:
        _forget_rows(session, key)
    if maker.state in LIVE_STATES:
        return []
    jobs.requeue(maker, "queued")
    maker.notified_at = func.now()
    first, *others = lost.values()
    more = f" (and {len(others)} more objects)" if others else ""
    jobs.record(session, maker.id, who, f"runs again: {first}{more}", reason="requeued", state="queued")
    session.flush()
    return [maker.id]


def _others_lost(context: "StageContext", object_key: str) -> dict[str, str]:
    """What else is lost of the artifact that an object belongs to: key and fault."""
    with context.reading() as session:
        maker = _maker_of(session, object_key)
        if maker is None or session.scalar(select(Job.state).where(Job.id == maker)) in LIVE_STATES:
            return {}
        folder, key = artifact_of(object_key)
        stage = stage_of_folder(folder)
        named = [] if stage is None else list(stage.named_objects(session, key))
    others = [each for each in named if each.key != object_key and not each.is_checkpoint]
    return {each.object.key: f"{each.object.key}: {each.fault}" for each in find_lost(
        context.store, others, on_checked=context.check)}  # fmt: skip


def _maker_of(session: Session, object_key: str) -> int | None:
    """The job that makes an object; None for those of a data set, which `dataset add` stores again."""
    folder, key = artifact_of(object_key)
    stage = stage_of_folder(folder)
    if stage is None:
        return None
    if stage.table is None:
        return session.scalar(select(Job.id).where(Job.key == key))
    return session.scalar(select(stage.table.job_id).where(stage.table.key == key))


def _ended_since(session: Session, job_id: int, other: int) -> bool:
    """Whether a job ended after the latest attempt at the other one began."""
    began = select(Job.started_at).where(Job.id == other).scalar_subquery()
    return session.scalar(select(Job.id).where(Job.id == job_id, Job.finished_at > began)) is not None


def _forget_rows(session: Session, object_key: str) -> None:
    """Delete the rows from which a stage would conclude that the object exists."""
    stage = stage_of_folder(artifact_of(object_key)[0])
    if stage is not None:
        stage.forget_object(object_key, session)
