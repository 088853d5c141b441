"""hsae-admin jobs list."""

import click

from hsae.catalog import JOB_STATES, transaction
from hsae.catalog.queries.jobs import list_jobs
from hsae.catalog.queries.studies import require_study
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.jobs.state import attempts, progress, state
from hsae.cli.printing.output import print_rows

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


@click.command("list")
@click.option("--study", type=int, help="Only the jobs of this study.", shell_complete=complete_studies)
@click.option(
    "--state",
    "states",
    multiple=True,
    help="Only jobs in this state; may be given several times.",
    type=click.Choice(JOB_STATES),
)
@click.option("--limit", type=click.IntRange(1, 10**6), default=100, show_default=True, help="Latest jobs to list.")
@json_option
@pass_connections
def list_(connections: Connections, study: int | None, states: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List jobs, oldest first."""
    with transaction(connections.sessions) as session:
        if study is not None:
            require_study(session, study)
        rows = list_jobs(session, study_id=study, states=states, limit=limit)
    for row in rows:
        row["seconds"] = None if row["seconds"] is None else round(float(row["seconds"]), 1)
        row["progress"] = progress(row)
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
