"""hsae-admin results absorption: nodes whose best latent is silent where another latent carries their direction."""

from typing import Any

import click

from hsae.catalog.findings.absorption import absorption_means, absorption_rows
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.printing.means import print_means
from hsae.cli.results.filters import (
    analysis_option,
    filtered_rows,
    in_sample,
    layer_option,
    limit_option,
    min_f1_option,
    sae_option,
    study_option,
)
from hsae.hierarchy.config import ABSORPTION_BASES

_COLUMNS = {
    "analysis_id": "analysis", "layer": "layer", "sae": "SAE", "synset": "node", "height": "height",
    "n_classes": "classes", "latent": "best latent", "latent_f1": "F1", "n_images": "images",
    "direction_f1": "direction F1", "n_present": "present", "n_silent": "silent", "n_absorbed": "absorbed",
    "silent_share": "silent share", "absorbed_share": "absorbed share", "random_absorbed_share": "by chance",
    "carrier": "carrier", "n_carrier": "its images",
}  # fmt: skip
_IMPORTANCE = (
    "synset", "latent", "absorbed_share", "random_absorbed_share", "n_present", "silent_share", "carrier", "layer",
    "sae", "analysis_id", "latent_f1", "direction_f1", "n_absorbed", "n_images",
)  # fmt: skip
_MEANS = {
    "basis": "basis", "n_nodes": "nodes", "direction_f1": "direction F1", "silent_share": "silent share",
    "absorbed_share": "absorbed share", "random_absorbed_share": "by chance",
}  # fmt: skip


@click.command()
@analysis_option
@study_option
@layer_option
@sae_option
@click.option(
    "--basis", type=click.Choice(ABSORPTION_BASES), default="sae", show_default=True,
    help="The SAE with the taxonomy, or with the classes shuffled over it.",
)  # fmt: skip
@click.option("--node", "nodes", multiple=True, help="Only this node; may be given several times.")
@click.option("--under", help="Only nodes at or below this one.")
@min_f1_option
@limit_option
@json_option
@pass_connections
def absorption(connections: Connections, /, as_json: bool, **wanted: Any) -> None:
    """Nodes whose best latent is silent where another latent carries the node's direction.

    Greatest absorbed share first, each beside the share by chance, for random directions. --min-f1 asks it of the best
    latent. Below them stand the means over the nodes whose best latent has an F1 of at least 0.5 in these analyses,
    the SAE's beside those with the classes shuffled over the tree.
    """
    rows = filtered_rows(connections, absorption_rows, ScoreFilter, quiet=as_json, **wanted)
    title = None if as_json else in_sample(connections, rows)
    print_marked_rows(rows, _COLUMNS, as_json=as_json, empty="No node fits.", title=title,
                      importance=_IMPORTANCE)  # fmt: skip
    if rows and not as_json:
        print_means(
            connections.sessions, rows, absorption_means, _MEANS, "Means over the nodes whose best latent has F1 >= 0.5"
        )
