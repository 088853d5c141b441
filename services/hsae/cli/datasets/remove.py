"""hsae-admin dataset remove."""

from dataclasses import asdict

import click

from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.pipeline.control.datasets import remove_dataset


@click.command()
@click.argument("name", shell_complete=complete_datasets)
@json_option
@pass_connections
def remove(connections: Connections, name: str, as_json: bool) -> None:
    """Forget the data set NAME, which no study uses; its images are not touched."""
    removed = remove_dataset(connections.sessions, connections.store, name)
    if as_json:
        print_json(asdict(removed))
        return
    click.echo(f"Removed {removed.name}: {removed.n_images} images, which still lie in {removed.root}.")
    if removed.was_default:
        now = "nothing" if removed.default is None else removed.default
        click.echo(f"It was the default of `submit`; that is {now} now.")
    if removed.not_deleted is not None:
        click.echo(
            f"Its listing could not be deleted ({removed.not_deleted}): `hsae-admin gc` does it later.", err=True
        )
