"""What a stage is given: the parts it may use, a way to write that only the lease's holder has, and progress."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Job, Json, transaction
from hsae.pipeline import jobs
from hsae.pipeline.heartbeat import Heartbeat
from hsae.settings import Settings
from hsae.store import ObjectStore


class StageContext:
    """The surroundings of one attempt at one job."""

    def __init__(
        self,
        settings: Settings,
        sessions: sessionmaker[Session],
        store: ObjectStore,
        device: torch.device,
        job: jobs.ClaimedJob,
        heartbeat: Heartbeat,
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.store = store
        self.device = device
        self.job_id = job.lease.job_id
        self.checkpoint = job.checkpoint
        self.fence = job.lease.fence
        self._lease = job.lease
        self._heartbeat = heartbeat

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that only the lease's holder can commit (the job's row stays locked in it).

        Raises:
            LeaseLostError: when another worker has taken the job over.
        """
        with transaction(self.sessions) as session:
            jobs.hold(session, self._lease)
            yield session

    def check(self) -> None:
        """Raise `LeaseLostError` or `JobCancelledError` when this attempt must stop; cheap, call it often."""
        self._heartbeat.check()

    def progress(self, done: int, total: int, unit: str) -> None:
        """Report progress (written by the heartbeat, about once a second) and stop where the job must stop."""
        self._heartbeat.progress(done, total, unit)
        self._heartbeat.check()

    def event(self, message: str, detail: Json | None = None) -> None:
        """Add a remark to the job's history."""
        with self.transaction() as session:
            jobs.record(session, self.job_id, self._lease.owner, message, detail=detail)

    def save_checkpoint(self, checkpoint: Json) -> None:
        """Remember where a later attempt goes on."""
        with self.transaction() as session:
            session.execute(update(Job).where(Job.id == self.job_id).values(checkpoint=checkpoint))
        self.checkpoint = checkpoint
