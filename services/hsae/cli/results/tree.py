"""hsae-admin results tree: a part of the taxonomy with the best latent of every node."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.tree import best_latents, find_tree, tree_nodes
from hsae.catalog.queries.known_names import find_nodes, require_known
from hsae.catalog.queries.scope import choose_scope
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.framework.plot_option import plot_option
from hsae.cli.framework.study_choice import say, scope_note
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, print_json, table
from hsae.cli.results.filters import (
    CONTROL_COLUMNS,
    analysis_option,
    basis_option,
    in_sample,
    layer_option,
    min_f1_option,
    node_q_option,
    one_analysis,
    sae_option,
    study_option,
)
from hsae.errors import UserError
from hsae.pipeline.exports.analysis_names import name_saes
from hsae.report.tree import keep_with_ancestors, tree_lines

_COLUMNS = {
    "line": "node", "n_classes": "classes", "n_images": "images", "f1": "F1", **CONTROL_COLUMNS,
    "f1_adjusted": "adjusted F1", "q_node": "q",
    "precision": "precision", "recall": "recall", "latent": "latent",
    "layer": "layer", "sae": "SAE", "analysis_id": "analysis",
}  # fmt: skip
_IMPORTANCE = (
    "line", "f1", "latent", "layer", "sae", *CONTROL_COLUMNS, "f1_adjusted", "q_node", "analysis_id", "n_images",
    "n_classes",
)  # fmt: skip
_LEGEND = """\
Best latent of every node over the analyses that fit. Controls at the same node, of the same analysis: baseline = the
best of all baselines; neurons = best raw neuron; ~tree = best latent where the classes are shuffled over the tree,
mean over seeds. "also X": the node has the further hypernym X; what lies under it is printed once."""
_PATHS = "Nodes of rank paths are printed by their last name; the full name is the path from the root, joined by /."


@click.command()
@click.argument("node")
@click.option("--dataset", help="The data set whose taxonomy is meant, where several have the node.")
@analysis_option
@study_option
@layer_option
@sae_option
@basis_option
@min_f1_option
@node_q_option
@click.option("--depth", type=click.IntRange(min=0), help="At most this many edges below NODE.")
@plot_option
@json_option
@pass_connections
def tree(
    connections: Connections,
    /,
    node: str,
    dataset: str | None,
    analysis_id: int | None,
    study: int | str | None,
    min_f1: float,
    depth: int | None,
    plot: Path | None,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Print what lies under NODE (dog.n.01 or n02084071), every node with its best latent.

    With --min-f1 only nodes that reach it are printed, and those above them; with --q only nodes whose test
    reaches it have a latent. JSON lists every node once.
    """
    fits = LatentFilter(analysis_ids=one_analysis(analysis_id), dataset=dataset, **wanted)
    found, rows, note = _fetch(connections, node, fits, study=study, depth=depth)
    root = found["synset_id"]
    if min_f1 > 0:
        fit = {row["synset_id"] for row in rows if (row["f1"] or 0.0) >= min_f1}
        if not fit:
            raise UserError(f"no node under {node} has a latent of F1 >= {min_f1:g}: lower --min-f1")
        rows = [dict(row) for row in keep_with_ancestors(rows, root, fit)]
    lines = tree_lines(rows, root)
    title = in_sample(connections, rows)
    if plot is not None:
        # matplotlib takes half a second to load: only a picture needs it.
        from hsae.report.figures.tree_figure import tree_figure

        about = f"{_name(rows, root)} of {found['dataset']}: the best latent of every node over the analyses that fit"
        tree_figure(lines, about if title is None else f"{about} ({title})", plot)
        click.echo(f"Figure: {plot}", err=True)
    if as_json:
        print_json({"dataset": found["dataset"], "node": _name(rows, root), "nodes": rows})
        return
    say(note, quiet=False)
    columns = {key: heading for key, heading in _COLUMNS.items() if fits.basis == "sae" or key not in CONTROL_COLUMNS}
    out = console()
    out.print(table(lines, marked(columns), title, importance=_IMPORTANCE))
    print_legend(columns)
    out.print()
    out.print(_LEGEND, soft_wrap=True, markup=False)
    if any(row["is_shortened"] for row in lines):
        out.print(_PATHS, soft_wrap=True, markup=False)


def _fetch(
    connections: Connections, node: str, fits: LatentFilter, *, study: int | str | None, depth: int | None
) -> tuple[dict[str, Any], list[dict[str, Any]], str | None]:
    """The data set and its node, the rows of the nodes under it, and a note which study was taken.

    Scores are None where no latent fires.
    """
    with transaction(connections.sessions) as session:
        nodes = find_nodes(session, [node])
        require_known(session, fits)
        scope = choose_scope(session, study, fits, nodes=nodes)
        fits = scope.wanted
        found = find_tree(session, nodes, dataset=fits.dataset, analysis_ids=fits.analysis_ids)
        rows = tree_nodes(session, dataset_id=found["dataset_id"], root=found["synset_id"], depth=depth)
        shown = tuple(row["synset_id"] for row in rows)
        best = best_latents(session, replace(fits, dataset=found["dataset"], nodes=shown))
        name_saes(session, list(best.values()))
    silent = dict.fromkeys((*_COLUMNS, "sae_kind", "basis", "seed", "auroc", "n_fire"))
    del silent["line"]
    merged = [{**silent, **row, **best.get(row["synset_id"], {})} for row in rows]
    return found, merged, scope_note(scope)


def _name(rows: list[dict[str, Any]], root: int) -> str:
    return next(str(row["synset"]) for row in rows if row["synset_id"] == root)
