"""hsae-admin jobs show."""

import click

from hsae.catalog import transaction
from hsae.catalog.queries.jobs import needed_jobs, show_job
from hsae.cli.framework.completion import complete_jobs
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.study_choice import job_or_latest, say
from hsae.cli.jobs.page import job_page
from hsae.cli.printing.output import print_json


@click.command()
@click.argument("job", type=int, required=False, shell_complete=complete_jobs)
@json_option
@pass_connections
def show(connections: Connections, job: int | None, as_json: bool) -> None:
    """Show one JOB (default: the latest that was started): its request, progress, needs, result and history."""
    with transaction(connections.sessions) as session:
        number, note = job_or_latest(session, job)
        row, events = show_job(session, number)
        needed = needed_jobs(session, number)
    if as_json:
        print_json(row | {"events": events})
        return
    say(note, quiet=False)
    click.echo(job_page(row, needed, events))
