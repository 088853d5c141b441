"""Runs one job: claim, stage, outcome. The worker's task only calls `run_job`."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from pydantic import ValidationError
from sqlalchemy.orm import Session, sessionmaker
from tenacity import RetryCallState, retry, retry_if_exception_type, wait_fixed

from hsae.catalog import Json, connect, session_factory, transaction
from hsae.devices.errors import is_broken_device, is_out_of_memory
from hsae.devices.memory import release_memory
from hsae.errors import HsaeError, JobCancelledError, LeaseLostError, ServiceError, UserError, WorkerStoppingError
from hsae.pipeline.execution.companions import companions, find_companions
from hsae.pipeline.execution.device import pick_device
from hsae.pipeline.execution.freed_memory import freed_memory_kept
from hsae.pipeline.execution.job_log import JobLog
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.kinds.stage import Stage, StageRequest
from hsae.pipeline.queue import broken_devices, jobs
from hsae.pipeline.queue.heartbeat import Heartbeat
from hsae.pipeline.queue.notifier import Notification, Notifier
from hsae.pipeline.queue.spared_memory import SPARED, was_spared
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.upkeep.clean_up import clean_up
from hsae.pipeline.upkeep.damage import forget_object, wait_for_maker
from hsae.sae.rows.shared_pass import Seat
from hsae.settings import Settings
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.objects import ObjectStore

log = logging.getLogger(__name__)
CRASHED = "crashed"
CRASHED_AND_QUEUED = "crashed, queued again"
_REFUSED_SECONDS = 1.0


def run_job(
    job_id: int,
    settings: Settings,
    owner: str,
    *,
    stop_requested: Callable[[], bool] = lambda: False,
    on_stuck: Callable[[], None] = lambda: None,
) -> str:
    """Claim the job and run its stage; returns the outcome in a word or two.

    It never raises for an error inside the job: that is the job's outcome, stored in its row and history.

    Args:
        job_id: the job.
        settings: of this worker.
        owner: who holds the lease, for people and for the process that cleans up after this one.
        stop_requested: asked often; once it returns True, the job is handed back at its next checkpoint.
        on_stuck: called if the work does not stop although the job was cancelled or lost.

    Raises:
        UserError: this worker cannot work: its database cannot be reached, its object store or device is set wrongly,
            or its device broke in this job. The job stays queued, and a reconciler sends its message again.
    """
    # Looked at first: a worker that cannot work must not take jobs from those that can.
    store = ObjectStore.from_settings(settings)
    device = pick_device(settings)
    engine = connect(settings)
    try:
        worker = _Worker(settings, store, device, session_factory(engine), owner, stop_requested, on_stuck)
        job = worker.claim(job_id)
        if job is None:
            return "not queued"
        with companions(job, worker.companions_of(job), worker.claim_and_run) as seat:
            return worker.run(job, seat)
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True)
class _Worker:
    """What the jobs of one process have in common; see `run_job`."""

    settings: Settings
    store: ObjectStore
    device: torch.device
    sessions: sessionmaker[Session]
    owner: str
    stop_requested: Callable[[], bool]
    on_stuck: Callable[[], None]

    def claim(self, job_id: int) -> jobs.ClaimedJob | None:
        # The heartbeat's connection is open before there is a lease: a server that is full later grants none in time.
        with transaction(self.sessions) as session, transaction(self.sessions) as second:
            second.connection()
            job = jobs.claim(session, job_id, self.owner, self.settings.lease_seconds)
            is_for_others = job is None and broken_devices.leave_to_others(session, job_id, self.owner)
        if is_for_others:
            raise UserError(
                f"it met a broken {self.device.type} device on this worker, which another one may not have: look at"
                " `nvidia-smi` and `dmesg`, then start this worker anew"
            )
        if job is None:
            log.info("job %d is not queued: nothing to do", job_id)
        return job

    def companions_of(self, job: jobs.ClaimedJob) -> list[int]:
        """The jobs to run beside a claimed one; none where the database has just gone away."""
        try:
            with transaction(self.sessions) as session:
                return find_companions(session, job, self.device, self.settings.trained_together)
        except ServiceError as error:
            log.warning("job %d runs by itself: %s", job.lease.job_id, error)
            return []

    def claim_and_run(self, job_id: int, seat: Seat) -> None:
        """Run a job beside another one, unless somebody else has it by now."""
        job = self.claim(job_id)
        if job is not None:
            self.run(job, seat)

    def run(self, job: jobs.ClaimedJob, seat: Seat | None) -> str:
        """Run a claimed job; returns the outcome."""
        settings, stop_requested = self.settings, self.stop_requested
        heartbeat = Heartbeat(
            self.sessions, job.lease, settings.lease_seconds, stop_requested=stop_requested, on_stuck=self.on_stuck
        )
        with heartbeat:
            try:
                with freed_memory_kept(), JobLog(self.store, job.lease.job_id, job.lease.fence):
                    context = StageContext(settings, self.store, self.device, job, heartbeat, seat)
                    outcome, follow_up = _attempt(job, settings, heartbeat, context)
                follow_up()  # the log, which somebody may be following, is not kept waiting for it
                return outcome
            except HsaeError as stop:  # not even the outcome could be written; the lease tells the reconciler
                log.warning("job %d: stopped: %s", job.lease.job_id, stop)
                return "stopped"


def _nothing() -> None:
    return None


def _attempt(
    job: jobs.ClaimedJob, settings: Settings, heartbeat: Heartbeat, context: StageContext
) -> tuple[str, Callable[[], None]]:
    """Run the stage and enter its outcome; returns it, and what to do after it."""
    log.info("%s on %s: attempt %d of %d", job.title, context.device, job.attempt, job.max_attempts)
    try:
        stage = stage_of(job.kind)
        request = stage.request.model_validate(job.request)
    except (KeyError, ValidationError):
        error = UserError(f"this worker's hsae {version('hsae')} cannot read the request: upgrade the worker")
        return _outage(job, settings, heartbeat, error), _nothing
    try:
        try:
            if job.attempt > 1:
                with context.reading() as session:
                    if was_spared(session, job.lease.job_id):
                        context.back_off()
            result = _run_stage(stage, request, context)
        except (ObjectMissingError, ObjectCorruptError) as loss:
            return _input_lost(job, settings, heartbeat, context, loss)
        with context.transaction() as session:
            notifications = jobs.notifications_for(
                session, jobs.succeed(session, job.lease, result, context.last_progress)
            )
    except LeaseLostError as stop:
        log.warning("job %d: stopped: %s", job.lease.job_id, stop)
        return "stopped", _nothing
    except JobCancelledError:
        log.info("job %d: cancelled", job.lease.job_id)
        # What was stored after the canceller had cleaned up; whoever takes the job anew waits for it.
        return "cancelled", lambda: _clean_up(job, "cancelled", context)
    except WorkerStoppingError:
        return _handed_back(job, context), _nothing
    except ServiceError as error:
        return _outage(job, settings, heartbeat, error), _nothing
    except UserError as mistake:
        return _failed(job, context, mistake), lambda: _clean_up(job, "failed", context)
    except Exception as error:
        log.exception("job %d: %s", job.lease.job_id, _in_one_line(error))
        with context.transaction() as session:
            detail = broken_devices.event_detail(job.lease.owner) if is_broken_device(error) else None
            again = jobs.retry_after_crash(session, job.lease, _in_one_line(error), settings.retry_seconds, detail)
        return CRASHED_AND_QUEUED if again else CRASHED, _nothing
    log.info("job %d: finished: %s", job.lease.job_id, result)
    return "succeeded", lambda: _go_on(job, settings, notifications, heartbeat)


def _run_stage(stage: Stage[Any], request: StageRequest, context: StageContext) -> Json:
    """Run it; where its device lacks memory, once more with less on it.

    What was stored is found again: finished shards, the checkpoint of a training.
    """
    while True:
        try:
            return stage.run(request, context)
        except RuntimeError as error:
            if not is_out_of_memory(error) or not context.back_off():
                raise
            reason = _in_one_line(error)
        # Outside the handler, whose traceback keeps the failed attempt's tensors alive.
        release_memory(context.device)
        context.event(f"out of memory on {context.device}, going on with less on it ({reason})", SPARED)


def _input_lost(
    job: jobs.ClaimedJob,
    settings: Settings,
    heartbeat: Heartbeat,
    context: StageContext,
    loss: ObjectMissingError | ObjectCorruptError,
) -> tuple[str, Callable[[], None]]:
    """Wait for the job that makes the lost object again; if it cannot wait, fail, and leave it to the next submit."""
    log.error("job %d: %s", job.lease.job_id, loss.fact)
    notifications = wait_for_maker(context, job, loss)
    if notifications is not None:
        return "waiting", lambda: _notify(settings, notifications, heartbeat)
    with context.transaction() as session:
        forget_object(session, loss.key, job.lease.owner, str(loss))
    return _failed(job, context, loss), _nothing


def _failed(job: jobs.ClaimedJob, context: StageContext, mistake: UserError) -> str:
    log.error("job %d: %s", job.lease.job_id, mistake)
    with context.transaction() as session:
        jobs.fail(session, job.lease, str(mistake))
    return "failed"


def _outage(job: jobs.ClaimedJob, settings: Settings, heartbeat: Heartbeat, error: UserError) -> str:
    """Enter that a service is down. While the database refuses even that (its disk is full, say), the job is kept.

    Raises:
        LeaseLostError, JobCancelledError, WorkerStoppingError: the job is no longer this worker's, or soon will not be.
    """
    log.error("job %d: %s", job.lease.job_id, error)

    def is_still_ours(attempt: RetryCallState) -> None:
        refusal = None if attempt.outcome is None else attempt.outcome.exception()
        log.warning("job %d: %s", job.lease.job_id, refusal)
        heartbeat.check()
        if heartbeat.stopping:
            raise WorkerStoppingError(f"the outage of job {job.lease.job_id} could not be entered") from refusal

    @retry(retry=retry_if_exception_type(ServiceError), wait=wait_fixed(_REFUSED_SECONDS), before_sleep=is_still_ours)
    def is_queued_again() -> bool:
        with heartbeat.transaction() as session:
            return jobs.retry_after_outage(session, job.lease, str(error), settings.retry_seconds, settings.max_outages)

    return "queued again" if is_queued_again() else "failed"


def _handed_back(job: jobs.ClaimedJob, context: StageContext) -> str:
    log.info("job %d: handed back, for this worker is stopping", job.lease.job_id)
    with context.transaction() as session:
        jobs.hand_back(session, job.lease, "handed back: its worker was stopped")
    return "handed back"


def _clean_up(job: jobs.ClaimedJob, state: str, context: StageContext) -> None:
    forget = state == "failed"  # a canceller has forgotten the rows, or keeps them
    try:
        clean_up(context.afterwards, context.store, job.lease.job_id, state, fence=job.lease.fence, forget=forget)
    except ServiceError as error:
        log.warning("what the job stored could not be deleted, `hsae-admin gc --partial` will: %s", error)


def _in_one_line(error: Exception) -> str:
    first_line = next(iter(str(error).strip().splitlines()), "no message")
    return f"{type(error).__name__}: {first_line}"


def _go_on(
    job: jobs.ClaimedJob, settings: Settings, notifications: Iterable[Notification], heartbeat: Heartbeat
) -> None:
    """Notify the workers of the jobs that need this one; after the commit, look for such jobs again.

    Of two jobs that end at the same instant neither sees that the other one has: what waits for both is still to be
    released. It would be the reconciler's otherwise.
    """
    _notify(settings, notifications, heartbeat)
    try:
        with heartbeat.reading() as session:
            late = jobs.notifications_for(session, jobs.release_waiting(session, job.lease.owner))
    except ServiceError as error:
        log.warning("job %d: what waits for it is left to a reconciler: %s", job.lease.job_id, error)
        return
    _notify(settings, late, heartbeat)


def _notify(settings: Settings, notifications: Iterable[Notification], heartbeat: Heartbeat) -> None:
    try:
        Notifier(settings).notify(notifications)
    except ServiceError as error:
        # The jobs are queued in the database; a reconciler sends the messages as soon as the broker answers.
        log.warning("%s", error)
        with heartbeat.reading() as session:
            jobs.mark_unsent(session, notifications)
