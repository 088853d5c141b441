"""docs/schema.md describes every table, view and column with the comments that are in the database.

After a migration write the page anew:

    UPDATE_DOCS=1 .venv/bin/python -m pytest tests/catalog/test_schema_page.py
"""

import os
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from hsae.catalog import Base

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"
HEAD = """# SQL schema

Every table, view and column, with the comment that is in the database. (`\\d+ TABLE` in psql shows the same.)
[metrics.md](metrics.md) defines the scores, [sql.md](sql.md) has queries for common questions. This page is generated:
`UPDATE_DOCS=1 .venv/bin/python -m pytest tests/catalog/test_schema_page.py`.
"""


def comment_of(connection: Connection, relation: str) -> str:
    """The comment on a table or view."""
    statement = text("SELECT coalesce(obj_description(CAST(:relation AS regclass)), '')")
    return str(connection.execute(statement, {"relation": relation}).scalar_one())


def view_columns(connection: Connection, view: str) -> list[tuple[str, str, str]]:
    """Name, type and comment of a view's columns."""
    columns = inspect(connection).get_columns(view)
    return [(column["name"], str(column["type"]), column["comment"] or "") for column in columns]


def section(name: str, comment: str, columns: list[tuple[str, str, str]]) -> str:
    """One relation as Markdown."""
    assert comment, f"{name} has no comment: write one in its migration"
    bare = [f"{name}.{column}" for column, _, content in columns if not content]
    assert not bare, f"without a comment: {bare}; write one in the migration (COMMENT ON COLUMN for a view)"
    lines = [f"### {name}", "", comment, "", "| column | type | content |", "|---|---|---|"]
    for column, kind, content in columns:
        lines.append(f"| `{column}` | {kind.lower()} | {content.replace('|', chr(92) + '|').replace('<', '&lt;')} |")
    return "\n".join(lines) + "\n"


def schema_page(connection: Connection) -> str:
    """The whole page."""
    inspector = inspect(connection)
    parts = [HEAD, "## Views\n"]
    parts += [
        section(view, comment_of(connection, view), view_columns(connection, view))
        for view in sorted(inspector.get_view_names())
    ]
    parts.append("## Tables\n")
    for table in sorted(Base.metadata.tables):
        columns = [
            (column["name"], str(column["type"]) + ("" if column["nullable"] else " not null"), column["comment"] or "")
            for column in inspector.get_columns(table)
        ]
        parts.append(section(table, comment_of(connection, table), columns))
    return "\n".join(parts)


def test_every_table_view_and_column_is_described(service):
    with service.sessions.kw["bind"].connect() as connection:
        page = schema_page(connection)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "docs/schema.md is out of date: see this file's first lines"
