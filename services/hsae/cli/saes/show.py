"""hsae-admin sae show."""

from pathlib import Path
from string import Formatter
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.trainings.curves import curve_of
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.plot_option import plot_option
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import cell, console, exact_cell, print_json, table
from hsae.cli.saes.chosen import chosen_sae, name_of
from hsae.errors import UserError
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.sae.config import SaeConfig

_ABOUT = {
    "layer": "layer", "model": "model", "dataset": "data set", "tokens": "tokens", "n_latents": "latents",
    "d_model": "d_model", "n_steps": "steps", "job_id": "job", "analysis_id": "analysis",
    "coherence_excess": "coherence excess", "source": "source", "created_at": "made", "key": "key",
}  # fmt: skip
_FIGURES = {
    "fvu": "FVU", "cosine": "cosine", "l0": "L0", "holdout_dead_share": "dead share", "cknna": "CKNNA",
}  # fmt: skip
_BESIDE = (
    "dead on all rows: {dead_share}",
    "CKNNA of held-out rows: {cknna} (latents shuffled {cknna_shuffled})",
    "coherence of the decoder: {decoder_coherence} (random directions {decoder_coherence_random})",
    "classes read from reconstructions: {class_accuracy_reconstructed} (from activations {class_accuracy}, by chance"
    " {class_accuracy_chance})",
    "loss of the {loss_recovered_by} recovered: {loss_recovered_mean} of what mean ablation costs (cross-entropy"
    " {cross_entropy_through_sae}; activations {cross_entropy}, mean {cross_entropy_mean_ablated})",
    "loss of the {loss_recovered_by} recovered: {loss_recovered_zero} of what zero ablation costs (zeros"
    " {cross_entropy_zero_ablated})",
)
"""Figures of the SAE as a whole, with what they are to be compared with; left out where they are undefined."""
_OF_ORIGIN = ("format", "hook_point", "hook", "layer", "model", "tokens")


@click.command()
@click.argument("sae", metavar="SAE")
@plot_option
@json_option
@pass_connections
def show(connections: Connections, sae: str, plot: Path | None, as_json: bool) -> None:
    """Show an SAE: its settings, its figures on held-out and training rows, its origin.

    With --plot it also draws its training. SAE is a number of `sae list`, or the name of an imported one.
    """
    with transaction(connections.sessions) as session:
        row = chosen_sae(session, sae)
        points = [] if plot is None else curve_of(session, row["key"])
    if plot is not None:
        _draw(row, points, plot)
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
            {"figure": figure, "held": row[name], "trained": row[f"train_{name.removeprefix('holdout_')}"]}
            for name, figure in marked(_FIGURES).items()
        ]
        out = console()
        out.print()
        out.print(table(rows, {"figure": "figure", "held": "held-out rows", "trained": "training rows"}))
        for line in _BESIDE:
            named = [name for _, name, _, _ in Formatter().parse(line) if name is not None]
            if all(row[name] is not None for name in named):
                click.echo(line.format(**{name: cell(row[name]) for name in named}))
        print_legend(_FIGURES)


def _draw(row: dict[str, Any], points: list[dict[str, Any]], path: Path) -> None:
    """Draw the curve of its training.

    Raises:
        UserError: it has none.
    """
    if not points:
        raise UserError(
            f"{name_of(row)} has no curve: it was trained by an earlier version or by another program; leave out --plot"
        )
    # matplotlib takes half a second to load: only a picture needs it.
    from hsae.report.figures.curve_figure import curve_figure

    label = sae_label(SaeConfig.parse(row["config"]))
    curve_figure({label: points}, f"{name_of(row)}: {label} of {row['model']} layer {row['layer']}", path)
    click.echo(f"Figure: {path}", err=True)


def _print_settings(config: dict[str, Any]) -> None:
    """The settings, and where an imported SAE is from."""
    origin = config.get("imported")
    own = {name: value for name, value in config.items() if name != "imported"}
    click.echo("settings")
    for name, value in own.items():
        click.echo(f"  {name:<16} {exact_cell(value)}")
    if origin is None:
        return
    click.echo("origin")
    for name in _OF_ORIGIN:
        if origin.get(name) is not None:
            click.echo(f"  {name:<16} {cell(origin[name])}")
    for note in origin.get("notes", ()):
        click.echo(f"  note: {note}")
