"""Keeps a job's lease alive from a thread of its own and carries its progress to the database."""

import logging
import threading
import time

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Json
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.pipeline import jobs

log = logging.getLogger(__name__)
_PROGRESS_SECONDS = 1.0


class Heartbeat:
    """Renews a lease until it is stopped, lost, or could not be renewed for as long as it lasts."""

    def __init__(self, sessions: sessionmaker[Session], lease: jobs.Lease, lease_seconds: float) -> None:
        self._sessions = sessions
        self._lease = lease
        self._lease_seconds = lease_seconds
        self._expires = time.monotonic() + lease_seconds
        self._lost_to: str | None = None
        self._progress: Json = {}
        self._first: tuple[float, int] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{lease.job_id}", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=30)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Take note of progress; the rate is that of this attempt alone."""
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        elapsed = now - self._first[0]
        self._progress = {
            "progress_done": done,
            "progress_total": total,
            "progress_unit": unit,
            "progress_rate": (done - self._first[1]) / elapsed if elapsed > 0 else None,
        }

    def check(self) -> None:
        """Raise when this worker must stop.

        Raises:
            JobCancelledError: the job was cancelled.
            LeaseLostError: another worker holds it, or the lease could not be renewed in time.
        """
        if self._lost_to == "cancelled":
            raise JobCancelledError(f"job {self._lease.job_id} was cancelled")
        if self._lost_to is not None:
            raise LeaseLostError(f"job {self._lease.job_id} is {self._lost_to} and no longer this worker's")
        if time.monotonic() > self._expires:
            raise LeaseLostError(f"the lease on job {self._lease.job_id} could not be renewed in time")

    def _run(self) -> None:
        next_renewal = time.monotonic()
        while not self._stop.wait(min(_PROGRESS_SECONDS, self._lease_seconds / 4)):
            progress, self._progress = self._progress, {}
            if not progress and time.monotonic() < next_renewal:
                continue
            started = time.monotonic()
            try:
                with self._sessions.begin() as session:
                    lost_to = jobs.renew(session, self._lease, self._lease_seconds, progress)
            except OperationalError:
                # The database may be restarting. The lease says how long that may last; `check` watches it.
                continue
            except DBAPIError as error:
                log.exception("job %d: the lease cannot be renewed", self._lease.job_id)
                self._lost_to = f"not renewable ({type(error.orig).__name__})"
                return
            if lost_to is not None:
                self._lost_to = lost_to
                return
            self._expires = started + self._lease_seconds
            next_renewal = started + self._lease_seconds / 3
