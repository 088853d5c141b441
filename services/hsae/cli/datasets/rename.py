"""hsae-admin dataset rename."""

import click

from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.pipeline.control.datasets import rename_dataset


@click.command()
@click.argument("old", shell_complete=complete_datasets)
@click.argument("new")
@json_option
@pass_connections
def rename(connections: Connections, old: str, new: str, as_json: bool) -> None:
    """Give the data set OLD the name NEW.

    Whatever was computed from it stays its own; the titles of earlier jobs keep the old name.
    """
    former, name = rename_dataset(connections.sessions, old, new)
    if as_json:
        print_json({"name": name, "former_name": former})
    elif former == name:
        click.echo(f"{name} is its name already.")
    else:
        click.echo(f"Renamed {former}: it is {name} now.")
