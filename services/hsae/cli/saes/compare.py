"""hsae-admin sae compare."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.queries.saes import show_saes
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, exact_cell, print_json, table
from hsae.cli.saes.chosen import NUMBER
from hsae.errors import UserError

_FIGURES = {
    "n_latents": "latents", "fvu": "FVU", "l0": "L0", "holdout_dead_share": "dead", "train_fvu": "train FVU",
    "train_l0": "train L0", "coherence_excess": "coherence excess", "loss_recovered_mean": "loss recovered (mean)",
    "loss_recovered_zero": "loss recovered (zeros)",
}  # fmt: skip
_PAIRS = {
    "sae": "SAE", "other": "other", "n": "latents", "mean_cosine": "mean cosine", "share_above": "above .7",
    "chance": "at random",
}  # fmt: skip


@click.command()
@click.argument("saes", nargs=-1, required=True, metavar="SAE...")
@json_option
@pass_connections
def compare(connections: Connections, saes: tuple[str, ...], as_json: bool) -> None:
    """Compare SAEs: settings, figures, and how similar their directions are.

    SAEs are numbers of `sae list`, where an imported one has its number once a study measured it. Of the settings those
    are shown that differ.
    Every latent of one SAE is matched to the most similar direction of the other. "at random" is the mean cosine of as
    many random directions.
    """
    if len(set(saes)) < 2:
        raise UserError("give the numbers of two SAEs or more: `hsae-admin sae list` lists them")
    wrong = next((given for given in saes if not NUMBER.fullmatch(given)), None)
    if wrong is not None:
        raise UserError(
            f"{wrong} is no number of an SAE: `hsae-admin sae list` lists them; an imported SAE has one once"
            " `hsae-admin submit --sae-from NAME` measured it"
        )
    with transaction(connections.sessions) as session:
        rows = show_saes(session, [int(given) for given in dict.fromkeys(saes)])
    # torch comes with it, seconds: what is refused above does without.
    from hsae.pipeline.exports.saes.sae_files import matched_directions

    pairs = matched_directions(connections.store, rows)
    differing = _differing(rows)
    if as_json:
        figures = [{name: row[name] for name in ("id", "layer", *_FIGURES)} for row in rows]
        print_json({"settings": differing, "figures": figures, "directions": pairs})
        return
    out = console()
    columns = {"setting": "setting", **{str(row["id"]): f"SAE {row['id']}" for row in rows}}
    if differing:
        shown = [{name: exact_cell(value) for name, value in row.items()} for row in differing]
        out.print(table(shown, columns))
        out.print()
    figures = [
        {"figure": heading, **{str(row["id"]): row[name] for row in rows}} for name, heading in marked(_FIGURES).items()
    ]
    out.print(
        table(figures, {"figure": "figure", **{name: title for name, title in columns.items() if name != "setting"}})
    )
    print_legend(_FIGURES)
    out.print()
    if pairs:
        out.print(table(pairs, _PAIRS))
    else:
        click.echo("Their activations have different widths: directions cannot be compared.")


def _differing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings that are not the same in all, a row each."""
    flat = {row["id"]: _flat(row) for row in rows}
    names = dict.fromkeys(name for settings in flat.values() for name in settings)
    return [
        {"setting": name, **{str(number): settings.get(name) for number, settings in flat.items()}}
        for name in names
        if len({repr(settings.get(name)) for settings in flat.values()}) > 1
    ]


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in row["config"].items() if name != "imported"}
    about = {name: row[name] for name in ("model", "layer", "dataset", "tokens")}
    return {**about, "imported": row["imported"], **config}
