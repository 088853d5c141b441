"""hsae-admin dataset list."""

import click
from sqlalchemy import select

from hsae.catalog import Dataset, transaction
from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import print_rows

_COLUMNS = {
    "name": "name",
    "n_images": "images",
    "n_classes": "classes",
    "n_nodes": "nodes",
    "taxonomy": "taxonomy",
    "root": "folder",
    "created_at": "registered",
}
_IMPORTANCE = ("name", "n_images", "n_classes", "root")


@click.command("list")
@json_option
@pass_connections
def list_(connections: Connections, as_json: bool) -> None:
    """List registered data sets."""
    with transaction(connections.sessions) as session:
        rows = session.scalars(select(Dataset).order_by(Dataset.id)).all()
    print_rows(
        [{key: getattr(row, key) for key in ("fingerprint", "checksums", *_COLUMNS)} for row in rows],
        _COLUMNS,
        as_json=as_json,
        empty="No data set is registered: `hsae-admin dataset add NAME PATH`.",
        importance=_IMPORTANCE,
    )
