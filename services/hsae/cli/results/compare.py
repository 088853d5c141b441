"""hsae-admin results compare: which of two analyses or studies has the better latents, height by height."""

from typing import Any

import click

from hsae.catalog import transaction
from hsae.catalog.findings.head_to_head import analyses_of, common_bases, common_dataset, node_pairs
from hsae.catalog.queries.known_names import find_nodes, require_known, study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.printing.analysis_names import analysis_titles
from hsae.cli.printing.output import console, json_option, print_json, table
from hsae.cli.results.filters import basis_option, layer_option
from hsae.errors import UserError
from hsae.report.head_to_head import by_height, greatest_differences

_GROUPS = {
    "group": "nodes of", "n_nodes": "nodes", "f1_a": "F1 A", "f1_a_shuffled_taxonomy": "~tree",
    "f1_a_neuron": "neurons", "f1_b": "F1 B", "f1_b_shuffled_taxonomy": "~tree", "f1_b_neuron": "neurons",
    "difference": "B - A", "wins_a": "A wins", "wins_b": "B wins", "ties": "ties",
}  # fmt: skip
_NODES = {
    "synset": "node", "height": "height", "n_classes": "classes", "n_images": "images", "f1_a": "F1 A",
    "f1_b": "F1 B", "difference": "B - A",
}  # fmt: skip
_GROUP_IMPORTANCE = ("group", "f1_a", "f1_b", "difference", "n_nodes", "wins_a", "wins_b", "ties")
_NODE_IMPORTANCE = ("synset", "difference", "f1_a", "f1_b")
_CONTROLS = ("shuffled_taxonomy", "neuron")
_LEGEND = """\
Means over nodes of the best F1 of any latent (of several analyses: the best of them; 0 where none fires). inner = nodes
with 3+ classes. Nodes that hold every image are left out. ~tree: the same with the classes shuffled over the tree, mean
over seeds; neurons: raw neurons at the same L0. More latents, and more analyses, have more chances: compare likes."""


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
    if not nodes:
        raise UserError(f"no node to compare is left under {under}: choose a node above")
    groups = by_height(nodes, controls)
    if as_json:
        print_json({"a": sides[0], "b": sides[1], "basis": basis, "groups": groups, "nodes": nodes})
        return
    out = console()
    for name, side in zip("AB", sides, strict=True):
        out.print(f"{name}: {side['title']}", soft_wrap=True, markup=False)
    out.print()
    columns = {key: heading for key, heading in _GROUPS.items() if key in groups[0]}
    out.print(table(groups, columns, importance=_GROUP_IMPORTANCE))
    for name, rows in zip("AB", greatest_differences(nodes, n_nodes), strict=True):
        if rows:
            out.print()
            out.print(table(rows, _NODES, title=f"Where {name} leads most", importance=_NODE_IMPORTANCE))
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
