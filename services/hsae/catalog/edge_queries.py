"""Questions about the latents' own hierarchy, and about the class information at every level of the taxonomy."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

Row = dict[str, Any]


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
    given = {name: value for name, value in wanted.items() if value is not None}
    where = [f"v.{name} = :{name}" for name in given]
    values: Row = {**given, "limit": limit}
    if min_f1 > 0:
        where.append("v.parent_f1 >= :min_f1 AND v.child_f1 >= :min_f1")
        values["min_f1"] = min_f1
    if nodes is not None:
        where.append("v.parent_label_id = ANY(:nodes)")
        values["nodes"] = list(nodes)
    if under is not None:
        where.append(
            "v.parent_label_id IN (SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = ANY(:under))"
        )
        values["under"] = list(under)
    if analysis_ids is not None:
        where.append("v.analysis_id = ANY(:analyses)")
        values["analyses"] = list(analysis_ids)
    query = f"""
        SELECT v.* FROM latent_edge_label v WHERE {" AND ".join(where) or "true"}
        ORDER BY v.implication DESC NULLS LAST, v.n_child DESC, v.analysis_id, v.source, v.parent, v.child
        LIMIT :limit
    """  # noqa: S608 -- column names come from this package, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def level_rows(session: Session, analysis_ids: Sequence[int] | None = None, **wanted: Any) -> list[Row]:
    """Rows of level_score by model, data set, tokens, layer and level; of SAEs of one layer the latest analysis."""
    given = {name: value for name, value in wanted.items() if value is not None}
    columns = {"model": "m.name", "dataset": "d.name", "layer": "s.layer"}
    where = [f"{columns[name]} = :{name}" for name in given]
    values: Row = dict(given)
    if analysis_ids is not None:
        where.append("a.id = ANY(:analyses)")
        values["analyses"] = list(analysis_ids)
    query = f"""
        SELECT DISTINCT ON (m.name, d.name, s.tokens, s.layer, s.id, v.level)
               m.name AS model, d.name AS dataset, s.tokens, s.layer, v.*
        FROM level_score v
        JOIN analysis a ON a.id = v.analysis_id
        JOIN sae e ON e.id = a.sae_id
        JOIN activation_set s ON s.id = e.activation_set_id
        JOIN model m ON m.id = s.model_id
        JOIN dataset d ON d.id = a.dataset_id
        WHERE {" AND ".join(where) or "true"}
        ORDER BY m.name, d.name, s.tokens, s.layer, s.id, v.level, a.id DESC
    """  # noqa: S608
    return [dict(row) for row in session.execute(text(query), values).mappings()]
