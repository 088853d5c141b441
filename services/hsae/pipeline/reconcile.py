"""Mends what was lost; every worker runs this now and then, one at a time."""

from hsae.catalog import connect, session_factory, transaction
from hsae.pipeline import jobs
from hsae.pipeline.doorbell import Doorbell
from hsae.settings import Settings


def reconcile(settings: Settings, who: str) -> tuple[int, ...]:
    """Take over expired leases and find lost messages; returns the jobs that were rung for.

    Raises:
        ServiceError: when the database or the broker cannot be reached; the next round tries again.
    """
    engine = connect(settings)
    try:
        with transaction(session_factory(engine)) as session:
            found = jobs.reconcile(session, who)
        if not (found.ready or found.overdue):
            return ()
        doorbell = Doorbell(settings)
        # A job that waits long has lost its message only if none is left: behind a long queue all wait long.
        lost = found.overdue if doorbell.n_messages() == 0 else ()
        doorbell.ring((*found.ready, *lost))
        return (*found.ready, *lost)
    finally:
        engine.dispose()
