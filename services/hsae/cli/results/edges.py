"""hsae-admin results edges: parent and child latents."""

from typing import Any

import click

from hsae.catalog.findings.edges import edge_means, edge_rows
from hsae.catalog.queries.score_filter import EdgeFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.printing.means import print_means
from hsae.cli.results.filters import (
    analysis_option,
    basis_option,
    filtered_rows,
    in_sample,
    layer_option,
    limit_option,
    min_f1_option,
    sae_option,
    study_option,
)
from hsae.hierarchy.config import EDGE_SOURCES

_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "source": "source", "parent": "parent",
    "parent_label": "its label", "child": "child", "child_label": "its label", "n_parent": "fires on",
    "n_child": "child on", "n_both": "both", "implication": "P(p|c)", "expected_implication": "by chance",
    "adjusted_implication": "adjusted", "implication_p": "p", "is_confirmed": "confirmed",
    "reverse_implication": "P(c|p)", "dominance": "dominance", "miss_rate": "miss rate",
    "not_dominant_share": "not dominant", "correlation": "correlation",
}  # fmt: skip
_IMPORTANCE = (
    "parent_label", "child_label", "parent", "child", "implication", "expected_implication", "is_confirmed",
    "adjusted_implication", "layer", "sae", "analysis_id", "source", "n_both", "n_parent", "n_child", "implication_p",
)  # fmt: skip
_MEANS = {
    "basis": "basis", "n_pairs": "pairs", "n_confirmed": "confirmed", "implication": "P(p|c)",
    "expected_implication": "by chance", "adjusted_implication": "adjusted", "dominance": "dominance",
    "miss_rate": "miss rate", "not_dominant_share": "not dominant", "correlation": "correlation",
}  # fmt: skip


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@basis_option
@click.option("--source", type=click.Choice(EDGE_SOURCES), help="Only pairs found in this way.")
@click.option("--parent", type=int, help="Only this parent latent.")
@click.option("--child", type=int, help="Only this child latent.")
@click.option("--node", "nodes", multiple=True, help="Only parents with this label; may be given several times.")
@click.option("--under", help="Only parents with a label at or below this node (dog.n.01 or n02084071).")
@min_f1_option
@limit_option
@json_option
@pass_connections
def edges(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Pairs of latents (or columns of a control) of which one is the other's parent.

    Strongest implication first, each beside what chance gives: the share of images on which the parent fires. A pair is
    confirmed if what chose it holds on the scored images, too. --min-f1 asks it of both labels. Below them stand the
    means over all pairs that the taxonomy names in these analyses, the SAE's beside those of its controls.
    """
    rows = filtered_rows(connections, edge_rows, EdgeFilter, quiet=as_json, **wanted)
    title = None if as_json else in_sample(connections, rows)
    print_marked_rows(rows, _COLUMNS, as_json=as_json, empty="No pair of latents fits.", title=title,
                      importance=_IMPORTANCE)  # fmt: skip
    if rows and not as_json:
        print_means(connections.sessions, rows, edge_means, _MEANS, "Means over the taxonomy's pairs of these analyses")
