"""Runs one job: claim, stage, outcome. The worker's task is a call of `run_job` and nothing else."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Json, connect, session_factory, transaction
from hsae.errors import HsaeError, JobCancelledError, LeaseLostError, ServiceError, UserError
from hsae.pipeline import jobs
from hsae.pipeline.context import StageContext
from hsae.pipeline.damage import forget_object
from hsae.pipeline.device import pick_device
from hsae.pipeline.doorbell import Doorbell
from hsae.pipeline.heartbeat import Heartbeat
from hsae.pipeline.requests import AnalyzeRequest, ExtractRequest, TrainRequest
from hsae.pipeline.stages import analyze, extract, train
from hsae.settings import Settings
from hsae.store import ObjectCorruptError, ObjectMissingError, ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stage:
    request: type[BaseModel]
    run: Callable[[Any, StageContext], Json]
    discard: Callable[[Any, StageContext, Session], None]


STAGES = {
    "extract": _Stage(ExtractRequest, extract.extract, extract.discard),
    "train": _Stage(TrainRequest, train.train, train.discard),
    "analyze": _Stage(AnalyzeRequest, analyze.analyze, analyze.discard),
}


def run_job(job_id: int, settings: Settings, owner: str) -> str:
    """Claim the job and run its stage; returns what became of it, in a word.

    Never raises for what went wrong inside the job: that is the job's outcome, kept in its row and history.

    Raises:
        ServiceError: when the database cannot be reached to claim it; a reconciler sends the message again.
    """
    engine = connect(settings)
    try:
        sessions = session_factory(engine)
        with transaction(sessions) as session:
            job = jobs.claim(session, job_id, owner, settings.lease_seconds)
        if job is None:
            log.info("job %d is not queued: nothing to do", job_id)
            return "not queued"
        log.info("job %d: %s (attempt %d of %d)", job_id, job.title, job.attempt, job.max_attempts)
        with Heartbeat(sessions, job.lease, settings.lease_seconds) as heartbeat:
            try:
                return _attempt(job, settings, sessions, heartbeat)
            except (LeaseLostError, JobCancelledError) as stop:
                log.warning("job %d: stopped: %s", job_id, stop)
                return "stopped"
    finally:
        engine.dispose()


def _attempt(job: jobs.ClaimedJob, settings: Settings, sessions: sessionmaker[Session], heartbeat: Heartbeat) -> str:
    stage = STAGES[job.kind]
    try:
        store = ObjectStore.from_settings(settings)
        context = StageContext(settings, sessions, store, pick_device(settings), job, heartbeat)
        request = stage.request.model_validate(job.request)
        try:
            result = stage.run(request, context)
        except (ObjectMissingError, ObjectCorruptError) as loss:
            with context.transaction() as session:
                forget_object(session, loss.key, job.lease.owner, str(loss))
            raise
        except UserError as mistake:
            if not isinstance(mistake, ServiceError):
                # Under the job's row lock, so that nobody takes the job over and publishes what is deleted here.
                with context.transaction() as session:
                    stage.discard(request, context, session)
            raise
        with context.transaction() as session:
            released = jobs.succeed(session, job.lease, result)
    except (LeaseLostError, JobCancelledError):
        raise
    except Exception as error:  # noqa: BLE001 -- whatever it was becomes the job's outcome
        return _failed(job, error, sessions)
    log.info("job %d: finished: %s", job.lease.job_id, result)
    _ring(settings, released)
    return "succeeded"


def _failed(job: jobs.ClaimedJob, error: Exception, sessions: sessionmaker[Session]) -> str:
    mistake = isinstance(error, UserError) and not isinstance(error, ServiceError)
    if isinstance(error, HsaeError):
        message = str(error)
        log.error("job %d: %s", job.lease.job_id, message)
    else:
        first_line = next(iter(str(error).strip().splitlines()), "no message")
        message = f"{type(error).__name__}: {first_line}"
        log.exception("job %d: %s", job.lease.job_id, message)
    with transaction(sessions) as session:
        jobs.hold(session, job.lease)
        again = jobs.fail(session, job.lease, message, again=not mistake, later=isinstance(error, ServiceError))
    return "queued again" if again else "failed"


def _ring(settings: Settings, job_ids: list[int]) -> None:
    try:
        Doorbell(settings).ring(job_ids)
    except ServiceError as error:
        # The jobs are queued in the database; the reconciler rings again.
        log.warning("%s", error)
