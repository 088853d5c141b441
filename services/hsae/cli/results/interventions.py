"""hsae-admin results interventions: what edits of latents took away."""

from pathlib import Path
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.interventions.listed import TABLES, InterventionTable, listing
from hsae.catalog.findings.interventions.pictured import pictured_edits, taken_away
from hsae.catalog.findings.tree import tree_nodes
from hsae.catalog.queries.measurements import taxonomy_root
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.plot_option import plot_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.results.filters import (
    analysis_option,
    filtered_rows,
    in_sample,
    layer_option,
    limit_option,
    sae_option,
    study_option,
)
from hsae.errors import UserError
from hsae.report.charts.edits import edit_about, edit_title
from hsae.report.ranges import ranges
from hsae.report.tree import tree_lines

_ANALYSIS = {"analysis_id": "analysis", "layer": "layer", "sae": "SAE"}
_EDIT = {"arm": "arm", "draw": "draw", "dose": "dose"}
_COLUMNS: dict[InterventionTable, dict[str, str]] = {
    "edits": {
        **_ANALYSIS, "readout": "readout", "synset": "node", **_EDIT, "accuracy_inside_before": "inside",
        "accuracy_inside_after": "after", "accuracy_outside_before": "outside", "accuracy_outside_after": "after ",
        "specificity": "specificity", "specificity_low": "from", "specificity_high": "to", "forgetting": "forgetting",
        "retention": "retention", "distance_correlation": "by distance", "distance_p": "p",
    },
    "contrasts": {
        **_ANALYSIS, "readout": "readout", "control": "control", "synset": "node", "n_nodes": "nodes",
        "specificity_difference": "specificity difference", "specificity_p": "p", "equal_forgetting": "forgetting",
        "cost": "cost", "cost_control": "of control", "cost_p": "p ",
    },
    "distances": {
        **_ANALYSIS, "readout": "readout", "target": "node", **_EDIT, "distance": "distance", "n_classes": "classes",
        "accuracy_drop": "accuracy drop", "accuracy_low": "from", "accuracy_high": "to", "accuracy_null_low": "~tree",
        "accuracy_null_high": "to ", "log_odds_drop": "log-odds drop", "log_odds_null_low": "~tree ",
        "log_odds_null_high": "to  ",
    },
    "effects": {
        **_ANALYSIS, "readout": "readout", "target": "target", **_EDIT, "synset": "node", "distance": "distance",
        "n_images": "images", "accuracy_before": "accuracy", "accuracy_after": "after", "log_odds_before": "log-odds",
        "log_odds_after": "after ",
    },
    "readouts": {
        **_ANALYSIS, "readout": "readout", "accuracy": "accuracy", "accuracy_through_sae": "through SAE",
        "chance": "chance", "log_odds": "log-odds", "log_odds_through_sae": "through SAE ",
        "moved_through_sae": "moved", "cross_entropy": "loss", "cross_entropy_through_sae": "through SAE  ",
        "cross_entropy_mean_ablated": "mean instead", "cross_entropy_zero_ablated": "zeros instead",
        "loss_recovered_mean": "recovered, mean", "loss_recovered_zero": "recovered, zeros",
    },
    "labels": {
        **_ANALYSIS, "readout": "readout", "latent": "latent", "synset": "label", "n_images": "images",
        "effect": "effect", "effect_low": "from", "effect_high": "to", "chance": "~latents", "chance_low": "from ",
        "chance_high": "to ", "accuracy_effect": "accuracy", "p": "p", "q": "q", "is_used": "used",
    },
    "steerability": {
        **_ANALYSIS, "readout": "readout", "units": "driven", "amount": "moves by", "share": "share",
        "share_low": "from", "share_high": "to", "n_units": "of", "shift": "median", "moved": "moved",
        "n_images": "images",
    },
}  # fmt: skip
_IMPORTANCE = (
    "synset", "target", "latent", "units", "amount", "share", "effect", "chance_high", "q", "is_used", "arm", "control",
    "specificity", "specificity_difference", "accuracy_inside_before", "accuracy_inside_after",
    "accuracy_outside_before", "accuracy_outside_after", "distance", "accuracy_drop", "accuracy_before",
    "accuracy_after", "loss_recovered_mean", "accuracy", "accuracy_through_sae", "dose", "readout", "layer", "sae",
)  # fmt: skip
_EMPTY = (
    "No interventions fit: `hsae-admin submit` with the same options and --intervene FILE makes them and reuses all the"
    " rest. Edits of several layers in one pass (`layers: together`) are listed under the deepest of them."
)


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@click.option("--node", "nodes", multiple=True, help="Only this node; may be given several times.")
@click.option("--under", help="Only nodes at or below this one.")
@click.option(
    "--table", "which", type=click.Choice(TABLES), default="edits", show_default=True,
    help="Figures of merit of edits; contrasts with controls; drops by distance; effects at nodes; readouts alone;"
    " latents one by one at their labels; steerability.",
)  # fmt: skip
@plot_option
@limit_option
@json_option
@pass_connections
def interventions(
    connections: Connections, /, which: InterventionTable, plot: Path | None, as_json: bool, **wanted: Any
) -> None:
    """Edits of latents: what the readouts lost inside the target node, outside it, and by distance from it.

    Accuracies are means over classes, with the target as one class beside every class outside it. Specificity is the
    drop inside minus the drop outside, with a 95 % interval over classes; docs/interventions.md defines the rest. Of
    effects, --node is the node at which the effect is, otherwise the target.

    labels: latents taken away one by one (`label_effects`): how much more their label loses than other classes, beside
    random latents that fire as often. steerability (`steer`): the share of latents, of neurons and of random directions
    that move a readout's mean distribution by so much when driven to the top of their natural range.

    Where several layers were edited in one pass (`layers: together`), rows are of the deepest layer and name all of
    them.

    --plot draws the taxonomy coloured by what an edit took away: of all analyses and targets that fit, --limit or not,
    the one whose target lost most beside the others. Above it stands its specificity beside random latents and LEACE.
    """
    rows = filtered_rows(connections, listing(which), ScoreFilter, quiet=as_json, kept="interventions", **wanted)
    if plot is not None:
        # The node of an effect is where it is, not what was edited.
        all_of = wanted | {"limit": None} | ({"nodes": (), "under": None} if which == "effects" else {})
        edits = filtered_rows(connections, listing("edits"), ScoreFilter, quiet=True, kept="interventions", **all_of)
        _draw(connections, edits, plot)
    title = None if as_json else in_sample(connections, rows)
    if not as_json:
        rows = [row | {"layer": ranges(row["layers"])} if len(row["layers"]) > 1 else row for row in rows]
    print_marked_rows(rows, _COLUMNS[which], as_json=as_json, empty=_EMPTY, title=title, importance=_IMPORTANCE)


def _draw(connections: Connections, rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the edit that tells most of the analyses and targets of these edits."""
    analyses = {row["analysis_id"] for row in rows}
    targets = {row["synset_id"] for row in rows}
    with transaction(connections.sessions) as session:
        found = pictured_edits(session, analyses, targets=[*targets], limit=1)
        if not found:
            raise UserError(f"no edit of a node's latents fits, so that {path} is not drawn: leave --plot out")
        (edit,) = found
        taken = taken_away(session, edit)
        root = taxonomy_root(session, edit["dataset_id"])
        nodes = tree_nodes(session, dataset_id=edit["dataset_id"], root=root, depth=None)
    lines = tree_lines([row | {"drop": taken.get(row["synset_id"], {}).get("drop")} for row in nodes], root)
    # matplotlib takes half a second to load: only a picture needs it.
    from hsae.report.figures.tree_figure import edited_tree_figure

    unit = "log-odds" if edit["unit"] == "log_odds" else "accuracy"
    edited_tree_figure(lines, unit, f"{edit_title(edit)}: what the {edit['readout']} lost", edit_about(edit), path)
    click.echo(f"Figure: {path}", err=True)
