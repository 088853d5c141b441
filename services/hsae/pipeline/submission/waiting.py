"""The wait for a study's jobs: what is left to do, who takes it, and why it failed."""

import time
from collections.abc import Callable, Sequence

from kombu.exceptions import OperationalError

from hsae.catalog import LIVE_STATES, UNSUCCESSFUL_STATES, transaction
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.jobs import list_jobs
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.queue.jobs import NEEDS_ENDED
from hsae.pipeline.queue.notifier import make_app

POLL_SECONDS = 0.5
_INSPECT_SECONDS = 2.0


def study_jobs(connections: Connections, study_id: int) -> list[Row]:
    """The jobs of a study, oldest first."""
    with transaction(connections.sessions) as session:
        return list_jobs(session, study_id=study_id)


def is_busy(jobs: Sequence[Row]) -> bool:
    """Whether some job is left to do."""
    return any(job["state"] in LIVE_STATES for job in jobs)


def raise_failure(jobs: Sequence[Row]) -> None:
    """Raise the reason of a job that failed or was cancelled.

    Raises:
        UserError: there is such a job.
    """
    bad = [job for job in jobs if job["state"] in UNSUCCESSFUL_STATES]
    if bad:
        # What merely waited for a failed job is not its own reason.
        cause = next((job for job in bad if not (job["error"] or "").startswith(NEEDS_ENDED)), bad[0])
        raise UserError(f"job {cause['id']} {cause['state']}: {cause['error'] or 'no reason kept'}")


def unattended_queues(connections: Connections, jobs: Sequence[Row]) -> list[str]:
    """The queues in which jobs wait and from which no worker takes any; waits two seconds for answers."""
    needed = {job["queue"] for job in jobs if job["state"] in {"queued", "waiting"}}
    return sorted(needed - _attended_queues(connections))


def _attended_queues(connections: Connections) -> set[str]:
    connections.notifier.check()
    try:
        answers = make_app(connections.settings).control.inspect(timeout=_INSPECT_SECONDS).active_queues()
    except (OperationalError, OSError):  # it went away since; whoever waits will see that nothing moves
        return set()
    return {queue["name"] for queues in (answers or {}).values() for queue in queues}


def wait_for_jobs(
    connections: Connections, study_id: int, *, on_look: Callable[[Sequence[Row]], object] = lambda jobs: None
) -> list[Row]:
    """Look at a study's jobs twice a second until none is left to do; returns them.

    Args:
        connections: the service.
        study_id: the study.
        on_look: called with the jobs at every look; may raise to stop.
    """
    while True:
        jobs = study_jobs(connections, study_id)
        on_look(jobs)
        if not is_busy(jobs):
            return jobs
        time.sleep(POLL_SECONDS)
