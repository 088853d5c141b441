"""Rows of the tables of interventions, with the analysis and the node that they are of."""

from collections.abc import Callable
from typing import Literal, get_args

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_scores
from hsae.catalog.queries.score_filter import ScoreFilter

InterventionTable = Literal["edits", "contrasts", "distances", "effects", "readouts"]
"""What can be listed: figures of merit, controls, distance curves, single nodes, unedited readouts."""
TABLES: tuple[InterventionTable, ...] = get_args(InterventionTable)

_ANALYSIS = "i.analysis_id, i.model, i.dataset, i.layer, i.tokens, i.sae_kind"
_EDIT = "e.synset_id AS target_id, t.name AS target, e.arm, e.draw, e.dose"
_JOINS = "JOIN intervention_set s ON s.id = x.intervention_set_id JOIN analysis_input i ON i.analysis_id = s.analysis_id"
_OF_EDIT = """
    JOIN intervention e ON e.intervention_set_id = x.intervention_set_id AND e.number = x.number
         AND e.readout = x.readout
    JOIN synset t ON t.id = e.synset_id
"""
_ROWS: dict[InterventionTable, tuple[str, str]] = {
    "edits": (
        f"SELECT {_ANALYSIS}, y.name AS synset, x.* FROM intervention x {_JOINS} JOIN synset y ON y.id = x.synset_id",
        "v.number, v.readout",
    ),
    "contrasts": (
        f"SELECT {_ANALYSIS}, y.name AS synset, x.* FROM intervention_contrast x {_JOINS}"
        " LEFT JOIN synset y ON y.id = x.synset_id",
        "v.readout, v.id",
    ),
    "distances": (
        f"SELECT {_ANALYSIS}, e.synset_id, {_EDIT}, x.* FROM intervention_distance x {_JOINS} {_OF_EDIT}",
        "v.number, v.readout, v.distance",
    ),
    "effects": (
        f"SELECT {_ANALYSIS}, y.name AS synset, {_EDIT}, x.* FROM intervention_effect x {_JOINS} {_OF_EDIT}"
        " JOIN synset y ON y.id = x.synset_id",
        "v.number, v.readout, v.distance, v.synset",
    ),
    "readouts": (
        f"SELECT {_ANALYSIS}, NULL::bigint AS synset_id, x.* FROM intervention_readout x {_JOINS}",
        "v.readout",
    ),
}


def listing(table: InterventionTable) -> Callable[[Session, ScoreFilter], list[Row]]:
    """The query of one table, for `filtered_rows`.

    A node of the filter is the target, of `effects` the node at which the effect is. Rows are ordered by analysis, set
    and edit.
    """
    rows, order = _ROWS[table]

    def query(session: Session, wanted: ScoreFilter) -> list[Row]:
        values: Row = {"limit": wanted.limit}
        statement = f"""
            SELECT v.* FROM ({rows}) v WHERE true{of_scores(wanted, values)}
            ORDER BY v.layer, v.analysis_id, v.intervention_set_id, {order} LIMIT :limit
        """  # noqa: S608 -- our own texts, values are bound
        return [dict(row) for row in session.execute(text(statement), values).mappings()]

    return query
