"""Questions about the latents' own hierarchy."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, equalities, of_nodes
from hsae.catalog.tables.scores import BASES


def edge_rows(
    session: Session,
    *,
    limit: int,
    min_f1: float = 0.0,
    nodes: Sequence[int] | None = None,
    under: Sequence[int] | None = None,
    analysis_ids: Sequence[int] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Rows of latent_edge_label, strongest implication first, then the more frequent child.

    `nodes` keeps the edges whose parent's label is one of these synsets, `under` those at or below one of them;
    `min_f1` keeps those whose labels both have at least that F1; `wanted` are equalities, None meaning any.
    """
    where, values = equalities(analysis_ids, **wanted)
    where += of_nodes(nodes, under, values, column="parent_label_id")
    if min_f1 > 0:
        where += " AND v.parent_f1 >= :min_f1 AND v.child_f1 >= :min_f1"
        values["min_f1"] = min_f1
    values["limit"] = limit
    query = f"""
        SELECT v.* FROM latent_edge_label v WHERE {where}
        ORDER BY v.implication DESC NULLS LAST, v.n_child DESC, v.analysis_id, v.source, v.parent, v.child
        LIMIT :limit
    """  # noqa: S608 -- column names come from this package, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def edge_means(session: Session, analysis_ids: Sequence[int]) -> list[Row]:
    """Means over the pairs that the taxonomy names, one row per basis (all its seeds), the SAE's first."""
    query = """
        SELECT e.basis, count(*) AS n_pairs, avg(e.implication) AS implication, avg(e.dominance) AS dominance,
               avg(e.hard_absorption) AS hard_absorption, avg(e.soft_absorption) AS soft_absorption,
               avg(e.correlation) AS correlation
        FROM latent_edge e WHERE e.source = 'taxonomy' AND e.analysis_id = ANY(:analyses)
        GROUP BY e.basis ORDER BY array_position(CAST(:bases AS text[]), e.basis)
    """
    found = session.execute(text(query), {"analyses": list(analysis_ids), "bases": list(BASES)})
    return [dict(row) for row in found.mappings()]
