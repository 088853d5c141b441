"""hsae-admin sae export."""

from pathlib import Path

import click

from hsae.catalog import transaction
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_json
from hsae.cli.saes.chosen import chosen_sae, name_of

_FORMATS = ("hsae", "saelens", "dictionary_learning", "sparsify")


@click.command()
@click.argument("sae", metavar="SAE")
@click.option("--format", "format_name", type=click.Choice(_FORMATS), default="hsae", show_default=True,
              help="For which program.")  # fmt: skip
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder to write."
)
@json_option
@pass_connections
def export(connections: Connections, sae: str, format_name: str, folder: Path, as_json: bool) -> None:
    """Write an SAE for another program, or in our own format.

    The files are safetensors and JSON. SAE is a number of `sae list`, or the name of an imported one. For other
    programs latents are in units of the activations: those of here divided by the SAE's input_scale.
    """
    with transaction(connections.sessions) as session:
        row = chosen_sae(session, sae)
    # torch comes with it, seconds: help, and what is refused above, do without.
    from hsae.pipeline.exports.saes.sae_files import export_sae

    written = export_sae(connections.store, row, folder, format_name)
    if as_json:
        print_json(written)
        return
    click.echo(f"Wrote {name_of(row)} to {folder}: {', '.join(written['files'])}.")
    click.echo(f"Read it with {written['hint'].replace('FOLDER', repr(str(folder)))}.")
