"""What a stage gets: its resources, transactions that only the lease's holder can commit, and progress."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from sqlalchemy import update
from sqlalchemy.orm import Session

from hsae.catalog import Job, Json
from hsae.devices.errors import OutOfDeviceMemoryError, is_out_of_memory
from hsae.errors import WorkerStoppingError
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.heartbeat import Heartbeat
from hsae.sae.rows.shared_pass import Seat
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

log = logging.getLogger(__name__)


class StageContext:
    """The resources of one attempt at one job."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        device: torch.device,
        job: jobs.ClaimedJob,
        heartbeat: Heartbeat,
        seat: Seat | None = None,
    ) -> None:
        """Gather them.

        Args:
            settings: the worker's.
            store: the object store.
            device: where the work is done.
            job: the claimed job.
            heartbeat: what renews its lease.
            seat: its part in a pass over the data that several jobs share.
        """
        self.settings = settings
        self.store = store
        self.device = device
        self.job_id = job.lease.job_id
        self.title = job.title
        self.checkpoint = job.checkpoint
        self.fence = job.lease.fence
        self.seat = seat
        self._lease = job.lease
        self._heartbeat = heartbeat
        self._spares_memory = False

    def transaction(self) -> AbstractContextManager[Session]:
        """A transaction that only the lease's holder can commit; see `Heartbeat.transaction`."""
        return self._heartbeat.transaction()

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction for reading; see `Heartbeat.reading`."""
        return self._heartbeat.reading()

    def afterwards(self) -> AbstractContextManager[Session]:
        """A transaction after the job is no longer this worker's; the lease is released."""
        self._heartbeat.stop()
        return self._heartbeat.reading()

    @property
    def stopping(self) -> bool:
        """Whether the worker was asked to stop. A stage that can save its state then does so, and calls `check`."""
        return self._heartbeat.stopping

    def check(self) -> None:
        """Raise if this attempt must stop; cheap, so call it often.

        Raises:
            LeaseLostError, JobCancelledError: the job is no longer this worker's.
            WorkerStoppingError: the worker was asked to stop; unsaved work will be done again.
        """
        self._heartbeat.check()
        if self.stopping:
            raise WorkerStoppingError(f"job {self.job_id} is handed back")

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        """Report progress (written by the heartbeat, about once a second).

        Args:
            done: units done.
            total: units in all.
            unit: what is counted.
            note: what else can be seen of the work, such as a loss.

        Raises:
            LeaseLostError, JobCancelledError: the job is no longer this worker's.
        """
        self._heartbeat.progress(done, total, unit, note)
        self._heartbeat.check()

    @property
    def last_progress(self) -> Json:
        """The columns of the job's row with its progress, as last reported."""
        return self._heartbeat.last_progress

    @property
    def spares_memory(self) -> bool:
        """Whether the device ran out of memory in this job: as little as possible is held on it until the job's end."""
        return self._spares_memory

    def back_off(self) -> bool:
        """Hold as little as possible on the device for the rest of the job; False where that is so already."""
        is_new = not self._spares_memory
        self._spares_memory = True
        return is_new

    @contextmanager
    def device_memory(self, remedy: str) -> Iterator[None]:
        """Around work whose config decides what is on the device at once, for the bits of the result depend on it.

        Out of memory is the caller's to try again once, with as little as possible beside it. Then it is final.

        Raises:
            OutOfDeviceMemoryError: with `remedy`, which says what does not fit and what to change.
        """
        try:
            yield
        except RuntimeError as error:
            if self.spares_memory and is_out_of_memory(error):
                raise OutOfDeviceMemoryError(f"out of memory on {self.device}: {remedy}") from error
            raise

    def event(self, message: str, detail: Json | None = None) -> None:
        """Add a remark to the job's history."""
        log.info("%s", message)
        with self.transaction() as session:
            jobs.record(session, self.job_id, self._lease.owner, message, detail=detail)

    def save_checkpoint(self, checkpoint: Json) -> None:
        """Store where a later attempt continues."""
        with self.transaction() as session:
            session.execute(update(Job).where(Job.id == self.job_id).values(checkpoint=checkpoint))
        self.checkpoint = checkpoint
