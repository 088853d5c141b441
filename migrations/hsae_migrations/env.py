"""Alembic's environment: runs on the connection it is given, else on the configured database."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.schema import SchemaItem

from hsae.catalog import Base, connect
from hsae.settings import load_settings


def _include(
    item: SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: SchemaItem | None
) -> Literal[True, False]:
    """Leave the partitions of node_score to the analyses that make and drop them."""
    del item, compare_to, reflected
    return not (type_ == "table" and name is not None and name.startswith("node_score_"))


def _run(connection: Connection) -> None:
    options: dict[str, Any] = {
        "include_object": _include,
        "compare_type": True,
        "compare_server_default": True,
    }
    context.configure(connection=connection, target_metadata=Base.metadata, **options)
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:
    with connect(load_settings()).connect() as own:
        _run(own)
        own.commit()
