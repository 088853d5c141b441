"""hsae-admin db current."""

import click

from hsae.catalog import connect
from hsae.catalog.server.schema_version import schema_version
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json


@click.command()
@json_option
@pass_connections
def current(connections: Connections, as_json: bool) -> None:
    """Show which revision the database is at and which one this version wants."""
    version = schema_version(connect(connections.settings))
    if as_json:
        print_json({"current": version.current, "head": version.head, "up_to_date": version.up_to_date})
    elif version.up_to_date:
        click.echo(f"{version.current} (up to date)")
    else:
        click.echo(f"{version.current or 'empty'} (wanted: {version.head}; run `hsae-admin db upgrade`)")
