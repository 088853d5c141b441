"""hsae-admin results nodes: nodes of the taxonomy with their best latents."""

from typing import Any

import click

from hsae.catalog.findings.scores import node_rows
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.results.filters import (
    CONTROL_COLUMNS,
    analysis_option,
    basis_option,
    filtered_rows,
    in_sample,
    layer_option,
    limit_option,
    min_f1_option,
    node_q_option,
    sae_option,
    scored_columns,
    study_option,
)

_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "synset": "node", "height": "height",
    "n_classes": "classes", "n_images": "images", "latent": "best latent", "f1": "F1", **CONTROL_COLUMNS,
    "f1_adjusted": "adjusted F1", "precision": "precision", "recall": "recall", "auroc": "AUROC", "q_node": "q",
}  # fmt: skip
_IMPORTANCE = (
    "synset", "f1", "latent", "layer", "sae", "analysis_id", *CONTROL_COLUMNS, "f1_adjusted", "q_node", "precision",
    "recall",
)  # fmt: skip


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@basis_option
@click.option("--node", "nodes", multiple=True, help="Only this node; may be given several times.")
@click.option("--under", help="Only nodes at or below this one.")
@min_f1_option
@node_q_option
@limit_option
@json_option
@pass_connections
def nodes(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Nodes of the taxonomy with their best latents, best F1 first.

    Beside a node's F1, what the best column of any baseline (baseline), the best raw neuron (neurons) and the best
    latent under a shuffled taxonomy (~tree, mean over seeds) reach at it. Adjusted F1 is 0 for a latent that always
    fires, at every size of node. q is the exact test of the node: whether some latent fires on its images more often
    than the best of as many would by chance.
    """
    rows = filtered_rows(connections, node_rows, LatentFilter, quiet=as_json, **wanted)
    title = None if as_json else in_sample(connections, rows)
    print_marked_rows(rows, scored_columns(_COLUMNS, rows), as_json=as_json, empty="No node fits.",
                      title=title, importance=_IMPORTANCE)  # fmt: skip
