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
# Columns of views without a comment in the database, of which no table or several have the name.
VIEW_COLUMNS = {
    "auroc": "AUROC of the pair",
    "basis": "sae, or a control",
    "best_f1": "mean over nodes of the best F1 (layer_score.best_f1_mean)",
    "best_f1_inner": "mean best F1 of inner nodes with three or more classes (layer_score.best_f1_inner_mean)",
    "child_f1": "F1 of the child's label",
    "child_label": "synset name of the child's label",
    "child_label_id": "synset of the child's label",
    "child_node": "source taxonomy: synset name of the node whose best latent the child is",
    "cosine": "mean cosine of input and reconstruction on held-out rows; null but for basis sae",
    "coverage": "ontological coverage: share of the classes under the LCH that are associated",
    "dataset": "name of the data set",
    "dead_share": "share of the columns that fire on no image",
    "depth": "shortest path from the root; root = 0",
    "f1": "F1 of the pair",
    "fvu": "fraction of variance unexplained on held-out rows; null but for basis sae",
    "height": "longest downward path to a leaf of the induced taxonomy; leaf = 0",
    "l0": "mean number of firing columns per scored image",
    "latent": "index in the dictionary",
    "lch": "synset name of the lowest common hypernym of the associated classes",
    "lch_height": "height of the LCH (layer_progress: the mean over alive columns)",
    "lch_height_relative": "mean LCH height over the root's height, 0 to 1 (layer_score.lch_height_relative_mean)",
    "model": "hub id or local folder of the backbone",
    "n_classes": "classes under the node (itself included if it is one)",
    "n_fire": "images on which the latent fires (N_j)",
    "n_images": "scored images under the node (n_v)",
    "n_seeds": "seeds that the row is the mean of: 1 unless the basis is shuffled",
    "parent_f1": "F1 of the parent's label",
    "parent_label": "synset name of the parent's label",
    "parent_label_id": "synset of the parent's label",
    "parent_node": "source taxonomy: synset name of the node whose best latent the parent is",
    "precision": "precision of the pair",
    "recall": "recall of the pair",
    "sae_kind": "kind of the SAE (sae.kind)",
    "seed": "seed of a shuffled control; 0 otherwise",
    "synset": "synset name of the node",
}


def comment_of(connection: Connection, relation: str) -> str:
    """The comment on a table or view."""
    statement = text("SELECT coalesce(obj_description(CAST(:relation AS regclass)), '')")
    return str(connection.execute(statement, {"relation": relation}).scalar_one())


def view_columns(connection: Connection, view: str) -> list[tuple[str, str, str]]:
    """Name, type and description of a view's columns; without a comment, that of the table's column of the name."""
    sources = connection.execute(
        text("SELECT DISTINCT table_name FROM information_schema.view_table_usage WHERE view_name = :view"),
        {"view": view},
    ).scalars()
    of_tables: dict[str, set[str]] = {}
    for source in sources:
        for column in inspect(connection).get_columns(source):
            of_tables.setdefault(column["name"], set()).add(column["comment"] or "")
    described = []
    for column in inspect(connection).get_columns(view):
        name = column["name"]
        texts = of_tables.get(name, set())
        inherited = texts.pop() if len(texts) == 1 else ""
        described.append((name, str(column["type"]), column.get("comment") or VIEW_COLUMNS.get(name) or inherited))
    return described


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
