"""Queries about the hierarchy among the latents."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_edges
from hsae.catalog.queries.score_filter import EdgeFilter
from hsae.vocabulary.bases import BASES


def edge_rows(session: Session, wanted: EdgeFilter) -> list[Row]:
    """Rows of latent_edge_label, strongest implication first, then the more frequent child.

    A pair's node is the parent's label; `min_f1` keeps the pairs whose labels both have at least that F1.
    """
    values: Row = {"limit": wanted.limit}
    query = f"""
        SELECT v.* FROM latent_edge_label v WHERE true{of_edges(wanted, values)}
        ORDER BY v.implication DESC NULLS LAST, v.n_child DESC, v.analysis_id, v.source, v.parent, v.child
        LIMIT :limit
    """  # noqa: S608 -- conditions name our columns, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def edge_means(session: Session, analysis_ids: Sequence[int]) -> list[Row]:
    """Means over the pairs that the taxonomy names, one row per basis (all its seeds), the SAE's first."""
    query = """
        SELECT e.basis, count(*) AS n_pairs, count(*) FILTER (WHERE e.is_confirmed) AS n_confirmed,
               avg(e.implication) AS implication, avg(e.expected_implication) AS expected_implication,
               avg(e.adjusted_implication) AS adjusted_implication, avg(e.dominance) AS dominance,
               avg(e.miss_rate) AS miss_rate, avg(e.not_dominant_share) AS not_dominant_share,
               avg(e.correlation) AS correlation
        FROM latent_edge e WHERE e.source = 'taxonomy' AND e.analysis_id = ANY(:analyses)
        GROUP BY e.basis ORDER BY array_position(CAST(:bases AS text[]), e.basis)
    """
    found = session.execute(text(query), {"analyses": list(analysis_ids), "bases": list(BASES)})
    return [dict(row) for row in found.mappings()]
