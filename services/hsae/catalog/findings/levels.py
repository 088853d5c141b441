"""Questions about the class information at every level of the taxonomy."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, equalities


def level_rows(session: Session, analysis_ids: Sequence[int] | None = None, **wanted: Any) -> list[Row]:
    """Rows of level_score by model, data set, tokens, layer and level; of SAEs of one layer the latest analysis."""
    where, values = equalities(analysis_ids, **wanted)
    query = f"""
        SELECT DISTINCT ON (v.model, v.dataset, v.tokens, v.layer, v.activation_set_id, v.level) v.* FROM (
            SELECT m.name AS model, d.name AS dataset, s.tokens, s.layer, s.id AS activation_set_id, l.*
            FROM level_score l
            JOIN analysis a ON a.id = l.analysis_id
            JOIN sae e ON e.id = a.sae_id
            JOIN activation_set s ON s.id = e.activation_set_id
            JOIN model m ON m.id = s.model_id
            JOIN dataset d ON d.id = a.dataset_id
        ) v
        WHERE {where}
        ORDER BY v.model, v.dataset, v.tokens, v.layer, v.activation_set_id, v.level, v.analysis_id DESC
    """  # noqa: S608 -- column names come from this package, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]
