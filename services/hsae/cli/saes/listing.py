"""hsae-admin sae list."""

import click

from hsae.catalog import transaction
from hsae.catalog.queries.saes import list_imported, list_saes
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.better import print_marked_rows
from hsae.cli.printing.output import print_rows
from hsae.pipeline.kinds.setting_labels import sae_label
from hsae.sae.config import SaeConfig

_SAES = {
    "id": "SAE", "label": "what", "model": "model", "layer": "layer", "dataset": "data set", "tokens": "tokens",
    "fvu": "FVU", "l0": "L0", "dead_share": "dead", "analysis_id": "analysis", "created_at": "made",
}  # fmt: skip
_IMPORTED = {
    "name": "name", "format": "format", "kind": "kind", "n_latents": "latents", "d_model": "d_model",
    "layer": "layer", "hook_point": "hook point", "model": "model", "n_measured": "measured", "source": "source",
    "created_at": "registered",
}  # fmt: skip


@click.command("list")
@click.option("--imported", is_flag=True, help="List the registered SAEs of other programs instead.")
@json_option
@pass_connections
def list_(connections: Connections, imported: bool, as_json: bool) -> None:
    """List SAEs, or with --imported those of other programs.

    FVU and L0 are of held-out rows.
    """
    with transaction(connections.sessions) as session:
        rows = list_imported(session) if imported else list_saes(session)
    if imported:
        print_rows(
            rows,
            _IMPORTED,
            as_json=as_json,
            empty="No SAE is imported: `hsae-admin sae import PATH` registers one.",
            importance=("name", "kind", "n_latents", "layer", "format"),
        )
        return
    labelled = [row | {"label": sae_label(SaeConfig.parse(row["config"]))} for row in rows]
    print_marked_rows(
        labelled,
        _SAES,
        as_json=as_json,
        empty="No SAE: `hsae-admin submit --layer 8` makes one.",
        importance=("id", "label", "layer", "fvu", "l0", "model"),
    )
