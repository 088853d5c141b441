"""hsae-admin jobs: which jobs run, which ran, and why one failed."""

import click

from hsae.cli.framework.lazy_group import LazyCommand, LazyGroup

_COMMANDS = {
    "cancel": LazyCommand(
        "hsae.cli.jobs.cancel:cancel", "Cancel JOBS, and whatever waits for them; a running one stops within seconds."
    ),
    "list": LazyCommand("hsae.cli.jobs.listing:list_", "List jobs, oldest first."),
    "logs": LazyCommand(
        "hsae.cli.jobs.logs:logs",
        "Print the log of one JOB (default: the latest that was started), from the object store.",
    ),
    "retry": LazyCommand(
        "hsae.cli.jobs.retry:retry",
        "Queue failed or cancelled JOBS again, with what they need and what waited for them.",
    ),
    "show": LazyCommand(
        "hsae.cli.jobs.show:show",
        "Show one JOB (default: the latest that was started): its request, progress, needs, result and history.",
    ),
    "watch": LazyCommand(
        "hsae.cli.jobs.watch:watch", "Watch the jobs of a STUDY (default: the latest) until they are done."
    ),
}


@click.group(cls=LazyGroup, lazy=_COMMANDS)
def jobs() -> None:
    """List, show, watch, cancel and retry jobs; read their logs."""
