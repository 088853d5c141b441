"""Tells workers of jobs that a command has queued."""

from collections.abc import Sequence

import click

from hsae.catalog import transaction
from hsae.cli.framework.connections import Connections
from hsae.errors import ServiceError
from hsae.pipeline.queue.jobs import mark_unsent
from hsae.pipeline.queue.notifier import Notification


def notify_workers(connections: Connections, notifications: Sequence[Notification]) -> None:
    """Notify the workers of queued jobs; if the broker is down, warn: the reconciler does so later."""
    try:
        connections.notifier.notify(notifications)
    except ServiceError as error:
        with transaction(connections.sessions) as session:
            mark_unsent(session, notifications)
        click.echo(f"Warning: {error}", err=True)
