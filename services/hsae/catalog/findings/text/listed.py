"""Rows of the tables of names by text, with the analysis that they are of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_scores
from hsae.catalog.queries.score_filter import ScoreFilter

NameTable = Literal["names", "agreement"]
"""What can be listed: the name of every latent; how many names agree with labels, beside chance."""
TABLES: tuple[NameTable, ...] = get_args(NameTable)


@dataclass(frozen=True, slots=True)
class _Listed:
    """Where rows come from: further columns, the table, what it is joined with, and the order."""

    columns: str
    table: str
    joined: str
    order: str


_LISTED: dict[NameTable, _Listed] = {
    "names": _Listed(
        "y.name AS synset, t.name AS label, l.label_f1 AS f1", "latent_name",
        """
            LEFT JOIN synset y ON y.id = x.synset_id
            LEFT JOIN latent l ON l.analysis_id = s.analysis_id AND l.basis = 'sae' AND l.latent = x.latent
            LEFT JOIN synset t ON t.id = l.label_synset_id AND l.label_f1 > 0
        """,
        "v.score DESC, v.layer, v.name_set_id, v.latent",
    ),
    "agreement": _Listed(
        "NULL::bigint AS synset_id", "name_agreement", "", "v.layer, v.analysis_id, v.name_set_id, v.height"
    ),
}  # fmt: skip


def listing(table: NameTable, *, sets: bool = False) -> Callable[[Session, ScoreFilter], list[Row]]:
    """The query of one table, for `filtered_rows`.

    A node of the filter is the one that the name means.

    Args:
        table: which.
        sets: whether every row has the set's `key`, `directions_sha256`, `text_revision` and `config`, too.
    """
    listed = _LISTED[table]
    further = ", s.key AS names_key, s.directions_sha256, s.text_revision, s.config AS names_config" if sets else ""

    def query(session: Session, wanted: ScoreFilter) -> list[Row]:
        values: Row = {"limit": wanted.limit}
        statement = f"""
            SELECT v.* FROM (
                SELECT i.analysis_id, i.model, i.dataset, i.layer, i.tokens, i.sae_kind, s.text_model, s.method,
                       s.n_words, {listed.columns}{further}, x.*
                FROM {listed.table} x
                JOIN name_set s ON s.id = x.name_set_id
                JOIN analysis_input i ON i.analysis_id = s.analysis_id
                {listed.joined}
            ) v
            WHERE true{of_scores(wanted, values)}
            ORDER BY {listed.order} LIMIT :limit
        """  # noqa: S608 -- our own texts, values are bound
        return [dict(row) for row in session.execute(text(statement), values).mappings()]

    return query
