"""hsae-admin studies remove."""

import click

from hsae.catalog import transaction
from hsae.cli.framework.completion import complete_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.pipeline.control.studies import remove_study


@click.command()
@click.argument("study", type=int, shell_complete=complete_studies)
@json_option
@pass_connections
def remove(connections: Connections, study: int, as_json: bool) -> None:
    """Take STUDY off the list, once its jobs are done or cancelled. What they made stays."""
    with transaction(connections.sessions) as session:
        removed = remove_study(session, study)
    if as_json:
        print_json(
            {
                "removed": removed.id,
                "name": removed.name,
                "shared_jobs": removed.n_shared_jobs,
                "own_jobs": removed.n_own_jobs,
            }
        )
        return
    click.echo(
        f"Removed study {removed.id} ({removed.name}). {removed.n_shared_jobs} of its jobs are shared with other"
        f" studies; {removed.n_own_jobs} now belong to none."
    )
    click.echo(
        "What they made stays, and a submit that needs it reuses it: `hsae-admin gc` deletes only what no row of the"
        " catalog refers to, and these artifacts have rows. `results --study all` still shows their scores."
    )
