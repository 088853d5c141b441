"""A query that is answered at once or not at all, for the completion of a command line."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from hsae.catalog import database_url
from hsae.cli.framework.connections import Connections
from hsae.errors import HsaeError

_CONNECT_SECONDS = 2
_QUERY_MILLISECONDS = 1000


def quick_rows(connections: Connections, query: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of a query for two texts; none where the database does not answer, or refuses."""
    with suppress(HsaeError, SQLAlchemyError):
        engine = create_engine(
            database_url(connections.settings),
            poolclass=NullPool,
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "options": f"-c statement_timeout={_QUERY_MILLISECONDS}",
            },
        )
        with engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(text(query), values)]
    return []
