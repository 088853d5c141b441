"""Queries about the class information at every level of the taxonomy."""

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter


def level_rows(session: Session, wanted: AnalysisFilter) -> list[Row]:
    """Rows of level_score by model, data set, tokens, layer and level, once for each activation set.

    The analyses of a layer share them; the rows name the latest one. With cross-fitting each half of the images has its
    own, told apart by `fold`: 1 where the first half is scored, else 0.
    """
    values: Row = {}
    query = f"""
        SELECT DISTINCT ON (v.model, v.dataset, v.tokens, v.layer, v.activation_set_id, f.fold, l.level)
               v.model, v.dataset, v.tokens, v.layer, v.activation_set_id, f.fold, l.*
        FROM level_score l JOIN analysis_input v ON v.analysis_id = l.analysis_id
        CROSS JOIN LATERAL (SELECT coalesce((v.split ->> 'fold')::integer, 0) AS fold) f
        WHERE true{of_analyses(wanted, values)}
        ORDER BY v.model, v.dataset, v.tokens, v.layer, v.activation_set_id, f.fold, l.level,
                 l.analysis_id DESC
    """  # noqa: S608 -- conditions name our columns, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]
