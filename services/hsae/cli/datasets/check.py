"""hsae-admin dataset check."""

import click

from hsae.catalog import transaction
from hsae.cli.framework.completion import complete_datasets
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.errors import UserError
from hsae.pipeline.inputs.dataset_names import find_dataset


@click.command()
@click.argument("name", shell_complete=complete_datasets)
@json_option
@pass_connections
def check(connections: Connections, name: str, as_json: bool) -> None:
    """Read every image of the data set NAME and list those that cannot be used."""
    with transaction(connections.sessions) as session:
        row = find_dataset(session, name)
    # scipy and pyarrow come with it, half a second: a wrong name is refused without it.
    from hsae.pipeline.inputs.unreadable import unreadable_images

    skipped = unreadable_images(connections.store, row, max_pixels=connections.settings.max_image_pixels)
    if as_json:
        print_json({"n_images": row.n_images, "skipped": [{"path": s.path, "reason": s.reason} for s in skipped]})
    else:
        for entry in skipped:
            click.echo(f"{entry.path}: {entry.reason}")
        click.echo(f"{row.n_images - len(skipped)} of {row.n_images} images can be read.")
    if len(skipped) > connections.settings.max_skipped_share * row.n_images:
        raise UserError(
            f"{len(skipped)} of {row.n_images} images cannot be read, more than HSAE_MAX_SKIPPED_SHARE allows"
        )
