"""hsae-admin jobs: what runs, what ran, and why it failed."""

import click

from hsae.cli.framework.completion import complete_jobs, complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.groups import HelpfulGroup
from hsae.cli.framework.study_choice import job_or_latest, say, study_or_latest
from hsae.cli.jobs.control import cancel, retry
from hsae.cli.jobs.logs import logs
from hsae.cli.jobs.skipped_images import print_skipped
from hsae.cli.jobs.state import attempts, state
from hsae.cli.printing.output import json_option, print_json, print_rows
from hsae.errors import UserError

_COLUMNS = {
    "id": "job",
    "state": "state",
    "queue": "queue",
    "priority": "priority",
    "title": "what",
    "progress": "progress",
    "attempts": "attempt",
    "seconds": "seconds",
    "error": "last error",
}
_IMPORTANCE = ("id", "title", "state", "error", "progress", "attempts", "queue", "seconds")


@click.group(cls=HelpfulGroup)
def jobs() -> None:
    """List, show, watch, cancel and retry jobs; read their logs."""


@jobs.command("list")
@click.option("--study", type=int, help="Only the jobs of this study.", shell_complete=complete_studies)
@click.option(
    "--state",
    "states",
    multiple=True,
    help="Only jobs in this state; may be given several times.",
    type=click.Choice(["waiting", "queued", "running", "succeeded", "failed", "cancelled"]),
)
@click.option("--limit", type=click.IntRange(1, 10**6), default=100, show_default=True, help="Latest jobs to list.")
@json_option
@pass_connections
def list_(connections: Connections, study: int | None, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List jobs, oldest first."""
    from hsae.catalog import transaction
    from hsae.catalog.queries.jobs import list_jobs
    from hsae.catalog.queries.studies import require_study

    with transaction(connections.sessions) as session:
        if study is not None:
            require_study(session, study)
        rows = list_jobs(session, study_id=study, states=states, limit=limit)
    for row in rows:
        row["seconds"] = None if row["seconds"] is None else round(float(row["seconds"]), 1)
        row["progress"] = (
            f"{row['progress_done']}/{row['progress_total']} {row['progress_unit']}" if row["progress_total"] else None
        )
        row["attempts"] = attempts(row)
    shown = rows if as_json else [row | {"state": state(row)} for row in rows]
    print_rows(
        shown,
        _COLUMNS,
        as_json=as_json,
        empty="No jobs: `hsae-admin submit --layer 8` makes some.",
        importance=_IMPORTANCE,
        prose={"state", "title", "error"},
    )


@jobs.command()
@click.argument("job", type=int, required=False, shell_complete=complete_jobs)
@json_option
@pass_connections
def show(connections: Connections, job: int | None, as_json: bool) -> None:
    """Show one JOB (default: the latest that was started): its request, progress, needs, result and history."""
    from hsae.catalog import transaction
    from hsae.catalog.queries.jobs import needed_jobs, show_job
    from hsae.cli.jobs.page import job_page

    with transaction(connections.sessions) as session:
        number, note = job_or_latest(session, job)
        row, events = show_job(session, number)
        needed = needed_jobs(session, number)
    if as_json:
        print_json(row | {"events": events})
        return
    say(note, quiet=False)
    click.echo(job_page(row, needed, events))


@jobs.command()
@click.argument("study", type=int, required=False, shell_complete=complete_studies)
@pass_connections
def watch(connections: Connections, study: int | None) -> None:
    """Watch the jobs of a STUDY (default: the latest) until they are done."""
    from hsae.catalog import transaction
    from hsae.cli.jobs.watch import wait_for_study

    with transaction(connections.sessions) as session:
        number, note = study_or_latest(session, study)
    say(note, quiet=False)
    try:
        wait_for_study(connections, number)
    except UserError:  # of a job that failed; why may be among the skipped images
        print_skipped(connections, number)
        raise
    print_skipped(connections, number)


jobs.add_command(cancel)
jobs.add_command(retry)
jobs.add_command(logs)
