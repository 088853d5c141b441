"""hsae-admin studies list."""

import click

from hsae.catalog import transaction
from hsae.catalog.queries.studies import list_studies
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_rows
from hsae.cli.studies.summary import COLUMNS, for_people

_IMPORTANCE = ("id", "name", "jobs", "model", "layers", "dataset")


@click.command("list")
@json_option
@pass_connections
def list_(connections: Connections, as_json: bool) -> None:
    """List studies, the latest last. The same request is one study, however often it is submitted."""
    with transaction(connections.sessions) as session:
        rows = list_studies(session)
    shown = rows if as_json else [row | for_people(row) for row in rows]
    print_rows(shown, COLUMNS, as_json=as_json, empty="No study: `hsae-admin submit --layer 8` makes one.",
               importance=_IMPORTANCE)  # fmt: skip
