"""Conditions of the questions' WHERE clauses: SQL that names columns of a view `v`, and the values that it binds."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]


def equalities(analysis_ids: Sequence[int] | None = None, **wanted: Any) -> tuple[str, Row]:
    """Columns that equal the given values, None meaning any, in these analyses."""
    values: Row = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(["true", *(f"v.{name} = :{name}" for name in values)])
    if analysis_ids is not None:
        where += " AND v.analysis_id = ANY(:analyses)"
        values["analyses"] = list(analysis_ids)
    return where, values


def of_nodes(
    nodes: Sequence[int] | None,
    under: Sequence[int] | None,
    values: Row,
    *,
    column: str = "synset_id",
    all_rows: bool = False,
) -> str:
    """Conditions on a column of synset ids: one of `nodes`, and at or below one of `under`.

    What they bind goes into `values`. `all_rows`: no limit ends the reading early. Of the many tables of a view the
    planner joins the synsets below a node last, which suits a search that ends at the first rows that fit. Where all
    that fit are wanted, an array of them lets it begin with their index.
    """
    where = ""
    if nodes is not None:
        where += f" AND v.{column} = ANY(:nodes)"
        values["nodes"] = list(nodes)
    if under is not None:
        below = "SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = ANY(:under)"
        where += f" AND v.{column} = ANY(ARRAY({below}))" if all_rows else f" AND v.{column} IN ({below})"
        values["under"] = list(under)
    return where
