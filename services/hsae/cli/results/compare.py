"""hsae-admin results compare: which of two analyses or studies has the better latents, height by height."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.head_to_head import analyses_of, common_bases, common_dataset, node_pairs
from hsae.catalog.queries.known_names import find_nodes, require_known, study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import marked, print_legend
from hsae.cli.printing.output import console, print_json, table
from hsae.cli.results.filters import basis_option, layer_option
from hsae.errors import UserError
from hsae.pipeline.exports.analysis_names import analysis_titles
from hsae.report.head_to_head import by_height, greatest_differences

_GROUPS = {
    "group": "nodes of", "n_nodes": "nodes", "f1_adjusted_a": "A", "f1_adjusted_a_shuffled_taxonomy": "~tree",
    "f1_adjusted_a_neuron": "neurons", "f1_adjusted_b": "B", "f1_adjusted_b_shuffled_taxonomy": "~tree",
    "f1_adjusted_b_neuron": "neurons", "difference": "B - A", "wins_a": "A wins", "wins_b": "B wins", "ties": "ties",
}  # fmt: skip
_NODES = {
    "synset": "node", "height": "height", "n_classes": "classes", "n_images": "images", "f1_adjusted_a": "A",
    "f1_adjusted_b": "B", "difference": "B - A",
}  # fmt: skip
_GROUP_IMPORTANCE = (
    "group", "f1_adjusted_a", "f1_adjusted_b", "difference", "n_nodes", "wins_a", "wins_b", "ties",
)  # fmt: skip
_NODE_IMPORTANCE = ("synset", "difference", "f1_adjusted_a", "f1_adjusted_b")
_CONTROLS = ("shuffled_taxonomy", "neuron")
_LEGEND = """\
A, B: means of the adjusted F1 of the node's best latent: 0 for one that always fires, and none counts less; over nodes
with distinct sets of images, without those that hold every image. inner = nodes with 3+ classes of the data set, with
scored images or without. ~tree: the same with the classes shuffled over the tree, mean over seeds; neurons: raw neurons
at the same densities. Of several analyses the best counts, chosen on the very images that are scored. More latents, and
more analyses, have more chances: compare likes. --json has the F1 as it is, too, and nodes that share their images."""


@click.command()
@click.argument("a", type=int)
@click.argument("b", type=int)
@click.option("--studies", is_flag=True, help="A and B are studies; the best over each one's analyses counts.")
@layer_option
@basis_option
@click.option("--under", help="Only nodes at or below this one.")
@click.option("--nodes", "n_nodes", type=click.IntRange(min=0), default=5, show_default=True,
              help="How many of the nodes with the greatest lead to print for each side.")  # fmt: skip
@json_option
@pass_connections
def compare(
    connections: Connections,
    /,
    a: int,
    b: int,
    studies: bool,
    layer: int | None,
    basis: str,
    under: str | None,
    n_nodes: int,
    as_json: bool,
) -> None:
    """Compare the analyses A and B, node by node, height by height. JSON holds every node."""
    sides, nodes, controls = _fetch(connections, a, b, studies=studies, layer=layer, basis=basis, under=under)
    groups = by_height(nodes, controls)
    if not groups:
        raise UserError(f"no node to compare is left under {under}: choose a node above")
    if as_json:
        print_json({"a": sides[0], "b": sides[1], "basis": basis, "groups": groups, "nodes": nodes})
        return
    out = console()
    for name, side in zip("AB", sides, strict=True):
        out.print(f"{name}: {side['title']}", soft_wrap=True, markup=False)
    out.print()
    columns = {key: heading for key, heading in _GROUPS.items() if key in groups[0]}
    out.print(table(groups, marked(columns), title="Adjusted F1", importance=_GROUP_IMPORTANCE))
    for name, rows in zip("AB", greatest_differences(nodes, n_nodes), strict=True):
        if rows:
            out.print()
            out.print(table(rows, marked(_NODES), title=f"Where {name} leads most", importance=_NODE_IMPORTANCE))
    print_legend(columns)
    out.print()
    out.print(_LEGEND, soft_wrap=True, markup=False)


def _fetch(
    connections: Connections, a: int, b: int, *, studies: bool, layer: int | None, basis: str, under: str | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The analyses of A and B, the rows of the nodes, and the same rows of the controls of an SAE."""
    with transaction(connections.sessions) as session:
        require_known(session, AnalysisFilter(analysis_ids=None if studies else (a, b), layer=layer))
        roots = None if under is None else find_nodes(session, [under])
        sides: list[dict[str, Any]] = []
        chosen = {number: study_analyses(session, number) if studies else [number] for number in (a, b)}
        names = analysis_titles(session, {analysis for ids in chosen.values() for analysis in ids})
        for number in (a, b):
            analyses = analyses_of(session, chosen[number], layer=layer)
            what = f"{'study' if studies else 'analysis'} {number}"
            if not analyses:
                raise UserError(f"{what} has no analysis{'' if layer is None else f' of layer {layer}'}")
            titles = list(dict.fromkeys(f"{names[row['id']]}, layer {row['layer']}" for row in analyses))
            title = f"{what}: {'; '.join(titles[:3])}{f' and {len(titles) - 3} more' if len(titles) > 3 else ''}"
            sides.append({"id": number, "title": title, "analysis_ids": [row["id"] for row in analyses]})
        first, second = sides[0]["analysis_ids"], sides[1]["analysis_ids"]
        dataset = common_dataset(session, [*first, *second])
        scored = common_bases(session, [*first, *second])
        if basis not in scored:
            raise UserError(f"the basis {basis} was not scored in all of these, only {', '.join(sorted(scored))}")
        rows = {
            one: node_pairs(session, first, second, dataset_id=dataset, basis=one, under=roots)
            for one in (basis, *(_CONTROLS if basis == "sae" else ()))
            if one in scored
        }
    nodes = rows.pop(basis)
    return sides, nodes, rows
