"""Rows of the tables of interventions, with the analysis and the node that they are of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_scores
from hsae.catalog.queries.score_filter import ScoreFilter

InterventionTable = Literal["edits", "contrasts", "distances", "effects", "readouts", "labels", "steerability"]
"""What can be listed: figures of merit, controls, distance curves, single nodes, unedited readouts; latents one by one:
at their labels, and as steering."""
TABLES: tuple[InterventionTable, ...] = get_args(InterventionTable)

LATEST_SETS = """(
        SELECT DISTINCT ON (analysis_id, with_analyses, config - '{format,layers}'::text[]) *
        FROM intervention_set
        ORDER BY analysis_id, with_analyses, config - '{format,layers}'::text[], id DESC)"""
"""The sets without those of earlier formats whose request was run again since; `with_analyses` tells what the setting
`layers` does, which the earliest sets lack."""
LAYERS = """
    CASE WHEN s.with_analyses IS NULL THEN ARRAY[i.layer] ELSE (
        SELECT array_agg(o.layer ORDER BY o.layer) FROM analysis_input o
        WHERE o.analysis_id = ANY(s.with_analyses || s.analysis_id)) END"""
"""The layers that a set `s` of the analysis `i` edits."""
N_LATENTS = """
    jsonb_array_length(e.latents)
    + coalesce((SELECT sum(jsonb_array_length(f.value)) FROM jsonb_each(e.further_latents) f), 0)::integer"""
"""How many latents an edit `e` edits, in all layers."""
_EDIT = "e.synset_id AS target_id, t.name AS target, e.arm, e.draw, e.dose"
_OF_EDIT = """
    JOIN intervention e ON e.intervention_set_id = x.intervention_set_id AND e.number = x.number
         AND e.readout = x.readout
    JOIN synset t ON t.id = e.synset_id
"""
_NODE = "JOIN synset y ON y.id = x.synset_id"


@dataclass(frozen=True, slots=True)
class _Listed:
    """Where rows come from: further columns, the table, what it is joined with, and the order within a set."""

    columns: str
    table: str
    joined: str
    order: str


_LISTED: dict[InterventionTable, _Listed] = {
    "edits": _Listed("y.name AS synset", "intervention", _NODE, "v.number, v.readout"),
    "contrasts": _Listed("y.name AS synset", "intervention_contrast", f"LEFT {_NODE}", "v.readout, v.id"),
    "distances": _Listed(
        f"e.synset_id, {_EDIT}", "intervention_distance", _OF_EDIT, "v.number, v.readout, v.distance"
    ),
    "effects": _Listed(
        f"y.name AS synset, {_EDIT}", "intervention_effect", _OF_EDIT + _NODE,
        "v.number, v.readout, v.distance, v.synset",
    ),
    "readouts": _Listed("NULL::bigint AS synset_id", "intervention_readout", "", "v.readout"),
    "labels": _Listed("y.name AS synset", "latent_effect", _NODE, "v.readout, v.effect DESC NULLS LAST, v.latent"),
    "steerability": _Listed(
        "NULL::bigint AS synset_id", "intervention_steerability", "",
        "v.readout, v.amount, array_position(ARRAY['latents', 'neurons', 'random'], v.units)",
    ),
}  # fmt: skip


def listing(table: InterventionTable) -> Callable[[Session, ScoreFilter], list[Row]]:
    """The query of one table, for `filtered_rows`.

    A node of the filter is the target, of `effects` the node at which the effect is. Rows are ordered by analysis, set
    and edit. Their `layer` is that of the analysis, `layers` has all that are edited in the same pass. Where a request
    has sets of several formats, those of the latest are listed.
    """
    listed = _LISTED[table]

    def query(session: Session, wanted: ScoreFilter) -> list[Row]:
        values: Row = {"limit": wanted.limit}
        statement = f"""
            SELECT v.* FROM (
                SELECT i.analysis_id, i.model, i.dataset, i.layer, {LAYERS} AS layers, i.tokens, i.sae_kind,
                       {listed.columns}, x.*
                FROM {listed.table} x
                JOIN {LATEST_SETS} s ON s.id = x.intervention_set_id
                JOIN analysis_input i ON i.analysis_id = s.analysis_id
                {listed.joined}
            ) v
            WHERE true{of_scores(wanted, values)}
            ORDER BY v.layer, v.analysis_id, v.intervention_set_id, {listed.order} LIMIT :limit
        """  # noqa: S608 -- our own texts, values are bound
        return [dict(row) for row in session.execute(text(statement), values).mappings()]

    return query
