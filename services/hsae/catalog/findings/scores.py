"""Questions about the scores of layers, latents and nodes; each returns plain rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.controls import add_controls
from hsae.catalog.queries.conditions import Row, equalities, of_nodes
from hsae.catalog.tables.scores import BASES


def layer_rows(session: Session, analysis_ids: Sequence[int] | None = None, **wanted: Any) -> list[Row]:
    """Rows of layer_progress, by SAE kind, layer and basis (the SAE first)."""
    where, values = equalities(analysis_ids, **wanted)
    query = f"""
        SELECT v.* FROM layer_progress v WHERE {where}
        ORDER BY v.model, v.dataset, v.tokens, v.sae_kind, v.layer, v.analysis_id,
                 array_position(CAST(:bases AS text[]), v.basis)
    """  # noqa: S608 -- column names come from this package, values are bound
    values["bases"] = list(BASES)
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def latent_rows(
    session: Session,
    *,
    min_f1: float,
    limit: int,
    nodes: Sequence[int] | None = None,
    under: Sequence[int] | None = None,
    max_q: float | None = None,
    analysis_ids: Sequence[int] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Rows of latent_label by falling F1.

    `nodes` keeps those labelled with one of these synsets, `under` those labelled with a synset at or below one of
    them, `max_q` those whose q-value at the label is at most that. Latents of the SAE have beside their F1 what its
    controls reach at the label (`add_controls`).
    """
    where, values = equalities(analysis_ids, **wanted)
    where += of_nodes(nodes, under, values, all_rows=max_q is not None)
    query = f"SELECT v.* FROM latent_label v WHERE {where} AND v.f1 >= :min_f1"  # noqa: S608
    order = "ORDER BY v.f1 DESC, v.analysis_id, v.latent"
    if max_q is not None:
        # The label's q is looked up row by row, and only as far down as the limit asks: OFFSET 0 keeps the planner from
        # looking up those that no other condition leaves.
        if nodes is not None or under is not None:
            query = f"SELECT v.* FROM ({query} {order} OFFSET 0) v WHERE true"  # noqa: S608
        query += """ AND (SELECT r.q FROM node_score r WHERE r.analysis_id = v.analysis_id AND r.basis = v.basis
                     AND r.seed = 0 AND r.latent = v.latent AND r.synset_id = v.synset_id) <= :max_q"""
        values["max_q"] = max_q
    values |= {"min_f1": min_f1, "limit": limit}
    found = [dict(row) for row in session.execute(text(f"{query} {order} LIMIT :limit"), values).mappings()]
    add_controls(session, found)
    return found


def node_rows(
    session: Session,
    *,
    min_f1: float,
    limit: int,
    nodes: Sequence[int] | None = None,
    under: Sequence[int] | None = None,
    max_q: float | None = None,
    analysis_ids: Sequence[int] | None = None,
    **wanted: Any,
) -> list[Row]:
    """Rows of node_best_latent by falling F1; `nodes` keeps these synsets, `under` those at or below one of them.

    Rows of the SAE have beside their F1 what its controls reach at the node (`add_controls`).
    """
    where, values = equalities(analysis_ids, **wanted)
    where += of_nodes(nodes, under, values)
    if max_q is not None:
        where += " AND v.q <= :max_q"
        values["max_q"] = max_q
    query = f"""
        SELECT v.* FROM node_best_latent v WHERE {where} AND v.f1 >= :min_f1
        ORDER BY v.f1 DESC, v.analysis_id, v.synset LIMIT :limit
    """  # noqa: S608
    values |= {"min_f1": min_f1, "limit": limit}
    found = [dict(row) for row in session.execute(text(query), values).mappings()]
    add_controls(session, found)
    return found
