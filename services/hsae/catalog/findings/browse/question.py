"""A query with its values: it is asked, or written out as SQL that one can run elsewhere."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row


@dataclass(frozen=True, slots=True)
class Question:
    """A query whose values are bound, never written into it by us.

    Attributes:
        query: SQL with `:name` for every value.
        values: the values by name.
    """

    query: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def ask(self, session: Session) -> list[Row]:
        """The rows."""
        found = session.execute(text(self.query), dict(self.values))
        names = tuple(found.keys())  # once: a page may have thousands of rows
        return [dict(zip(names, row, strict=True)) for row in found]

    def as_sql(self, session: Session) -> str:
        """The same query with its values as literals, which the driver quotes."""
        connection = session.connection()
        compiled = str(text(self.query).bindparams(**self.values).compile(dialect=connection.dialect))
        driver = cast("psycopg.Connection", connection.connection.dbapi_connection)
        return textwrap.dedent(psycopg.ClientCursor(driver).mogrify(compiled, dict(self.values))).strip()
