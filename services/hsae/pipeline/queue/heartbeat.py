"""Renews a job's lease in a thread, writes its progress, and tells the work when to stop."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Json, bound_idling, transaction
from hsae.errors import JobCancelledError, LeaseLostError, ServiceError, WorkerStoppingError
from hsae.pipeline.queue import jobs
from hsae.settings import DEFAULT_LEASE_SECONDS

log = logging.getLogger(__name__)
_BEAT_SECONDS = 1.0  # less with a lease of less than four of them
_POLL_SECONDS = 0.2
_JOIN_SECONDS = float(DEFAULT_LEASE_SECONDS)  # a heartbeat that hangs for longer is left behind
# How long a write waits for a database that answers but refuses (a full disk, say); one that is away is waited for
# until the lease is known to be lost.
_REFUSED_SECONDS = 60.0
_STUCK_SECONDS = 20.0
# How long a transaction with the job's row may idle, where a lease is shorter: publications compute in between.
_HELD_IDLE_SECONDS = 120.0


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


class Heartbeat:
    """Renews a lease until it is stopped or lost.

    `stop_requested` says whether this worker was asked to stop. `on_stuck` is called if the work continues long after
    the job was lost or cancelled.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        lease: jobs.Lease,
        lease_seconds: float,
        *,
        stop_requested: Callable[[], bool] = _never,
        on_stuck: Callable[[], None] = _nothing,
    ) -> None:
        self._sessions = sessions
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._stop_requested = stop_requested
        self._on_stuck = on_stuck
        self._expires = time.monotonic() + lease_seconds
        self._lost_to: str | None = None
        self._progress: Json = {}
        self.last_progress: Json = {}
        """What the work last reported, written or not."""
        self._first: tuple[float, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job_id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Release the lease; work that continues is not watched any more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_JOIN_SECONDS)

    @property
    def stopping(self) -> bool:
        """Whether this worker was asked to stop."""
        return self._stop_requested()

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        """Record progress; the rate is that of this attempt only. `note` says what else can be seen of the work."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        elapsed = now - self._first[0]
        self._progress = self.last_progress = {
            "progress_done": done,
            "progress_total": total,
            "progress_unit": unit,
            "progress_rate": (done - self._first[1]) / elapsed if elapsed > 0 else None,
            "progress_note": note,
        }

    def check(self) -> None:
        """Raise if this worker no longer has the job; wait while this is unknown.

        A lease that could not be renewed in time (the database is down, or this process was suspended) may belong to
        another worker now. This method then waits until the database answers.

        Raises:
            JobCancelledError: the job was cancelled.
            LeaseLostError: another worker holds it.
            WorkerStoppingError: this worker was asked to stop while it waited for the database.
        """
        while True:
            if self._lost_to == "cancelled":
                raise JobCancelledError(f"job {self._lease.job_id} was cancelled")
            if self._lost_to is not None:
                raise LeaseLostError(f"job {self._lease.job_id} is {self._lost_to} and no longer this worker's")
            if time.monotonic() <= self._expires:
                return
            if self.stopping:
                raise WorkerStoppingError(f"the lease on job {self._lease.job_id} could not be renewed")
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that only the lease's holder can commit (the job's row stays locked in it).

        Raises:
            LeaseLostError, JobCancelledError: the job is no longer this worker's.
            ServiceError: the database failed during the transaction, or refuses it for long.
        """
        with ExitStack() as stack:
            session = self._begin(stack, hold=True)
            yield session
            # A long one keeps the heartbeat out; the lease must not be over when it lets the row go.
            jobs.renew(session, self._lease, self._lease_seconds, {})

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction for reading, which waits for the database as `transaction` does."""
        with ExitStack() as stack:
            yield self._begin(stack, hold=False)

    def _begin(self, stack: ExitStack, *, hold: bool) -> Session:
        deadline = time.monotonic() + max(_REFUSED_SECONDS, self._lease_seconds)
        # By hand: tenacity would look at the deadline before `check`, which waits as long as it must and says more.
        while True:
            try:
                with ExitStack() as attempt:
                    session = attempt.enter_context(transaction(self._sessions))
                    if hold:
                        # Suspended here, this process would keep the row locked, and so the job, from all others.
                        bound_idling(session, max(_HELD_IDLE_SECONDS, self._lease_seconds))
                        jobs.hold(session, self._lease)
                    else:
                        session.connection()
                    stack.push(attempt.pop_all())
                    return session
            except ServiceError as error:
                self.check()
                if time.monotonic() > deadline:
                    raise
                log.warning("job %d: waiting for the database: %s", self._lease.job_id, error)
                time.sleep(_BEAT_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(min(_BEAT_SECONDS, self._lease_seconds / 4)):
            progress, self._progress = self._progress, {}
            started = time.monotonic()
            try:
                with self._sessions.begin() as session:
                    # The reconciler passes over a row that is locked: it could not take over the job.
                    bound_idling(session, self._lease_seconds)
                    lost_to = jobs.renew(session, self._lease, self._lease_seconds, progress | _gpu_memory())
            except OperationalError:
                # The database may be restarting; `check` holds the work once the lease is over.
                continue
            except DBAPIError as error:
                if error.connection_invalidated:
                    continue
                log.exception("job %d: the lease cannot be renewed", self._lease.job_id)
                lost_to = f"not renewable ({type(error.orig).__name__})"
            except Exception as error:  # else the work would wait for ever for a heartbeat that has died
                log.exception("job %d: the lease cannot be renewed", self._lease.job_id)
                lost_to = f"not renewable ({type(error).__name__})"
            if lost_to is not None:
                self._lost_to = lost_to
                if not self._stop.wait(_STUCK_SECONDS):
                    log.error("job %d is %s, but its work does not stop", self._lease.job_id, lost_to)
                    self._on_stuck()
                return
            self._expires = started + self._lease_seconds


def _gpu_memory() -> Json:
    """Peak GPU memory of this process, if it has a CUDA context."""
    torch = sys.modules.get("torch")  # not imported here: who has not loaded it uses no GPU
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {"gpu_memory_bytes": torch.cuda.max_memory_reserved()}
