"""Tells workers of jobs that a command has queued."""

from collections.abc import Sequence

import click

from hsae.cli.framework.connections import Connections
from hsae.pipeline.queue.notifier import Notification
from hsae.pipeline.submission.notifying import notify_of_queued


def notify_workers(connections: Connections, notifications: Sequence[Notification]) -> None:
    """Notify the workers of queued jobs; if the broker is down, warn: the reconciler does so later."""
    warning = notify_of_queued(connections, notifications)
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)
