"""hsae-admin sae show."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.printing.output import cell, console, json_option, print_json, table
from hsae.cli.saes.chosen import chosen_sae, name_of
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.sae.config import SaeConfig

_ABOUT = {
    "layer": "layer", "model": "model", "dataset": "data set", "tokens": "tokens", "n_latents": "latents",
    "d_model": "d_model", "n_steps": "steps", "job_id": "job", "analysis_id": "analysis",
    "coherence_excess": "coherence excess", "source": "source", "created_at": "made", "key": "key",
}  # fmt: skip
_FIGURES = {
    "FVU": ("fvu", "train_fvu"),
    "cosine": ("cosine", "train_cosine"),
    "L0": ("l0", "train_l0"),
    "dead share": ("holdout_dead_share", "train_dead_share"),
}
_OF_ORIGIN = ("format", "hook_point", "layer", "model", "tokens")


@click.command()
@click.argument("sae", metavar="SAE")
@json_option
@pass_connections
def show(connections: Connections, sae: str, as_json: bool) -> None:
    """Show an SAE: its settings, its figures on held-out and training rows, its origin.

    SAE is a number of `sae list`, or the name of an imported one.
    """
    with transaction(connections.sessions) as session:
        row = chosen_sae(session, sae)
    if as_json:
        print_json(row)
        return
    click.echo(f"{name_of(row)}: {sae_label(SaeConfig.parse(row['config']))}")
    for name, heading in _ABOUT.items():
        if row.get(name) is not None:
            click.echo(f"  {heading:<16} {cell(row[name])}")
    _print_settings(row["config"])
    if row["id"] is not None:
        rows = [
            {"figure": figure, "held": row[held_out], "trained": row[trained]}
            for figure, (held_out, trained) in _FIGURES.items()
        ]
        out = console()
        out.print()
        out.print(table(rows, {"figure": "figure", "held": "held-out rows", "trained": "training rows"}))
        click.echo(f"dead on all rows: {cell(row['dead_share'])}")


def _print_settings(config: dict[str, Any]) -> None:
    """The settings, and where an imported SAE is from."""
    origin = config.get("imported")
    own = {name: value for name, value in config.items() if name != "imported"}
    click.echo("settings")
    for name, value in own.items():
        click.echo(f"  {name:<16} {cell(value)}")
    if origin is None:
        return
    click.echo("origin")
    for name in _OF_ORIGIN:
        if origin.get(name) is not None:
            click.echo(f"  {name:<16} {cell(origin[name])}")
    for note in origin.get("notes", ()):
        click.echo(f"  note: {note}")
