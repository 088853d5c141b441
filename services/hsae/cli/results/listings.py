"""hsae-admin results: scores from the catalog."""

from pathlib import Path
from typing import Any

import click

from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.groups import HelpfulGroup
from hsae.cli.framework.study_choice import choose_scope, say
from hsae.cli.printing.output import console, json_option, print_json, print_rows, table
from hsae.cli.results.compare import compare
from hsae.cli.results.edges import edges
from hsae.cli.results.export import export
from hsae.cli.results.filters import (
    CONTROL_COLUMNS,
    analysis_option,
    basis_option,
    column_basis_option,
    filtered_rows,
    layer_option,
    limit_option,
    min_f1_option,
    q_option,
    sae_option,
    scored_columns,
    study_option,
)
from hsae.cli.results.levels import levels
from hsae.cli.results.names import analysis_titles, name_saes
from hsae.cli.results.study import study_results
from hsae.cli.results.tree import tree

_LAYER_COLUMNS = {
    "layer": "\nlayer",
    "fvu": "\nFVU",
    "l0": "\nL0",
    "dead_share": "\ndead",
    "probe_accuracy": "\nprobe",
    "lch_height": "LCH\nheight",
    "lch_height_neuron": "\nneurons",
    "lch_height_untrained": "\nuntrained",
    "lch_height_shuffled_taxonomy": "\n~tree",
    "lch_height_shuffled_labels": "\n~labels",
    "coverage": "cover-\nage",
    "coverage_neuron": "\nneurons",
    "coverage_untrained": "\nuntrained",
    "coverage_shuffled_taxonomy": "\n~tree",
    "coverage_shuffled_labels": "\n~labels",
}
_CONTROL_HEADINGS = {
    "neuron": "neurons",
    "pca": "PCA",
    "random": "random",
    "untrained": "untrained",
    "shuffled_taxonomy": "~tree",
    "shuffled_labels": "~labels",
}
_SCORE_COLUMNS = {
    "layer": "\nlayer",
    "share_nodes_f1": "nodes\nF1>=.5",
    **{f"share_nodes_f1_{control}": f"\n{heading}" for control, heading in _CONTROL_HEADINGS.items()},
    "best_f1_inner": "inner\nF1",
    **{f"best_f1_inner_{control}": f"\n{heading}" for control, heading in _CONTROL_HEADINGS.items()},
}
# Of the columns these stay longest in a narrow terminal: each score followed by the controls that say most of it.
_LAYER_IMPORTANCE = (
    "layer", "lch_height", "lch_height_shuffled_taxonomy", "lch_height_neuron", "coverage",
    "coverage_shuffled_taxonomy", "coverage_neuron", "fvu", "l0", "probe_accuracy", "dead_share",
)  # fmt: skip
_SCORE_IMPORTANCE = (
    "layer", "share_nodes_f1", "best_f1_inner", "best_f1_inner_shuffled_taxonomy", "best_f1_inner_random",
    "share_nodes_f1_shuffled_taxonomy", "share_nodes_f1_random", "best_f1_inner_neuron", "share_nodes_f1_neuron",
)  # fmt: skip
_LEGEND = """\
LCH height, coverage: of the lowest common hypernym of the classes of a latent's 16 strongest images; latents' means.
nodes F1>=.5: share of taxonomy nodes that some latent answers to. inner F1: mean best F1 of nodes with 3+ classes.
Controls at the same L0: neurons = raw neurons; PCA, random = principal and random directions; untrained (at most that
L0) = the SAE before training. Its own latents: ~labels = image labels shuffled; ~tree = classes shuffled over the tree.
probe: held-out accuracy of a linear probe for the class on the layer's raw activations."""
_LATENT_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "shown_latent": "latent", "synset": "label",
    "f1": "F1", **CONTROL_COLUMNS, "precision": "precision", "recall": "recall", "auroc": "AUROC", "lch": "LCH",
    "lch_height": "LCH height", "coverage": "coverage", "n_fire": "fires on",
}  # fmt: skip
_NODE_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "synset": "node", "height": "height",
    "n_classes": "classes", "n_images": "images", "latent": "best latent", "f1": "F1", **CONTROL_COLUMNS,
    "precision": "precision", "recall": "recall", "auroc": "AUROC", "q": "q",
}  # fmt: skip


_IMPORTANCE = (
    "synset", "f1", "shown_latent", "latent", "layer", "sae", "analysis_id", *CONTROL_COLUMNS, "precision",
    "recall",
)  # fmt: skip
_ALIKE = "+1: that many further latents of the analysis have the same label and the same numbers; --json lists each."


@click.group(cls=HelpfulGroup)
def results() -> None:
    """Look at scores, and export them."""


results.add_command(tree)
results.add_command(compare)
results.add_command(edges)
results.add_command(levels)
results.add_command(study_results)
results.add_command(export)


@results.command()
@study_option
@click.option("--model", help="Only this backbone.")
@click.option("--dataset", help="Only this data set.")
@layer_option
@sae_option
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Also draw them to this PNG file.")
@json_option
@pass_connections
def layers(
    connections: Connections, /, study: int | str | None, plot: Path | None, as_json: bool, **wanted: Any
) -> None:
    """Scores of every layer, each SAE beside its controls."""
    rows = fetch_layers(connections, study=study, quiet=as_json, **wanted)
    if plot is not None and rows:
        from hsae.backbones.names import short_model_name
        from hsae.report.figure import layer_figure

        layer_figure(
            rows, ", ".join(dict.fromkeys(f"{short_model_name(r['model'])} on {r['dataset']}" for r in rows)), plot
        )
    if as_json:
        print_json(rows)
    else:
        print_layer_rows(rows)


def fetch_layers(
    connections: Connections, *, study: int | str | None, quiet: bool = True, **wanted: Any
) -> list[dict[str, Any]]:
    """Layer scores with controls beside them, of a study, of all or of the latest, with the SAEs' names and titles."""
    from hsae.catalog import transaction
    from hsae.catalog.findings.scores import layer_rows
    from hsae.catalog.queries.known_names import require_known
    from hsae.catalog.queries.score_filter import AnalysisFilter
    from hsae.report.layer_table import beside_controls

    with transaction(connections.sessions) as session:
        fits = AnalysisFilter(**wanted)
        require_known(session, fits)
        fits, note = choose_scope(session, study, fits)
        rows = beside_controls(layer_rows(session, fits))
        name_saes(session, rows)
        titles = analysis_titles(session, {row["analysis_id"] for row in rows})
    say(note, quiet=quiet)
    return [row | {"title": titles[row["analysis_id"]]} for row in rows]


def print_layers(connections: Connections, *, study_id: int) -> None:
    """Print the layer tables of a study."""
    print_layer_rows(fetch_layers(connections, study=study_id))


def print_layer_rows(rows: list[dict[str, Any]]) -> None:
    """One table per model, data set and SAE."""
    if not rows:
        click.echo("No scores fit: `hsae-admin submit --layer 8 --wait` makes some.")
        return
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get("title", f"{row['sae_kind']} SAE x{row['expansion']}"), []).append(row)
    out = console()
    for title, group in groups.items():
        for columns, importance in ((_LAYER_COLUMNS, _LAYER_IMPORTANCE), (_SCORE_COLUMNS, _SCORE_IMPORTANCE)):
            scored = {key: heading for key, heading in columns.items() if any(key in row for row in group)}
            out.print(table(group, scored, title=title, digits=2, importance=importance))
            out.print()
    out.print(_LEGEND, soft_wrap=True)


@results.command()
@analysis_option
@study_option
@layer_option
@sae_option
@column_basis_option
@click.option("--node", "nodes", multiple=True, help="Only latents with this label; may be given several times.")
@click.option("--under", help="Only labels at or below this node (dog.n.01 or n02084071).")
@min_f1_option
@q_option
@limit_option
@json_option
@pass_connections
def latents(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Latents with their labels, best F1 first.

    Beside a latent's F1, what the best raw neuron (neurons) and the best latent under a shuffled taxonomy (~tree, mean
    over seeds) reach at its label. Latents of one analysis with the same label and the same numbers share a row, and
    --limit counts rows; JSON has every latent.
    """
    from hsae.catalog.findings.scores import latent_rows
    from hsae.catalog.queries.score_filter import LatentFilter

    if as_json:
        print_json(filtered_rows(connections, latent_rows, LatentFilter, quiet=True, **wanted))
        return
    rows = _alike_rows(connections, **wanted)
    for row in rows:
        n_more = len(row["latents"]) - 1
        row["shown_latent"] = f"{row['latent']} +{n_more}" if n_more else row["latent"]
    print_rows(rows, scored_columns(_LATENT_COLUMNS, rows), as_json=False, empty="No latent fits.",
               importance=_IMPORTANCE)  # fmt: skip
    if any(len(row["latents"]) > 1 for row in rows):
        click.echo(f"\n{_ALIKE}")


def _alike_rows(connections: Connections, *, limit: int, **wanted: Any) -> list[dict[str, Any]]:
    """The first `limit` rows of latents that are alike, each with all of its latents."""
    from hsae.catalog.findings.scores import latent_rows
    from hsae.catalog.queries.score_filter import LatentFilter
    from hsae.report.identical_latents import merge_identical_latents

    n_latents = limit
    while True:
        found = filtered_rows(
            connections, latent_rows, LatentFilter, quiet=n_latents > limit, limit=n_latents, **wanted
        )
        rows = merge_identical_latents(found, _LATENT_COLUMNS.keys() - {"shown_latent"})
        if len(found) < n_latents:
            return rows[:limit]
        # They come by F1 and analysis, which alike ones share: only those of the last of both may go on behind it.
        open_end = (found[-1]["f1"], found[-1]["analysis_id"])
        if len(rows) >= limit and (rows[limit - 1]["f1"], rows[limit - 1]["analysis_id"]) != open_end:
            return rows[:limit]
        n_latents *= 4


@results.command()
@analysis_option
@study_option
@layer_option
@sae_option
@basis_option
@click.option("--node", "nodes", multiple=True, help="Only this node; may be given several times.")
@click.option("--under", help="Only nodes at or below this one.")
@min_f1_option
@q_option
@limit_option
@json_option
@pass_connections
def nodes(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Nodes of the taxonomy with their best latents, best F1 first.

    Beside a node's F1, what the best raw neuron (neurons) and the best latent under a shuffled taxonomy (~tree, mean
    over seeds) reach at it.
    """
    from hsae.catalog.findings.scores import node_rows
    from hsae.catalog.queries.score_filter import LatentFilter

    rows = filtered_rows(connections, node_rows, LatentFilter, quiet=as_json, **wanted)
    print_rows(rows, scored_columns(_NODE_COLUMNS, rows), as_json=as_json, empty="No node fits.",
               importance=_IMPORTANCE)  # fmt: skip
