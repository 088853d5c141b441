"""Tells workers of jobs that were queued."""

from collections.abc import Sequence

from hsae.catalog import transaction
from hsae.errors import ServiceError
from hsae.pipeline.connections import Connections
from hsae.pipeline.queue.jobs import mark_unsent
from hsae.pipeline.queue.notifier import Notification


def notify_of_queued(connections: Connections, notifications: Sequence[Notification]) -> str | None:
    """Notify the workers of queued jobs.

    Returns:
        Why they could not be notified, if the broker is down: the reconciler does so later. None if they were.
    """
    try:
        connections.notifier.notify(notifications)
    except ServiceError as error:
        with transaction(connections.sessions) as session:
            mark_unsent(session, notifications)
        return str(error)
    return None
