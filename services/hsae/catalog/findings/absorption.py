"""Queries about absorption at the nodes of the taxonomy."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row, of_scores
from hsae.catalog.queries.score_filter import ScoreFilter
from hsae.vocabulary.bases import BASES

LEAST_F1 = 0.5
"""Means are over nodes that some latent stands for: whose best latent has at least this F1 on the scored images."""


def absorption_rows(session: Session, wanted: ScoreFilter) -> list[Row]:
    """Rows of node_absorption with their nodes, the greatest absorbed share first, then the most images.

    `min_f1` is that of the best latent at the node. Nodes on no image of which the direction is present come last.
    """
    values: Row = {"limit": wanted.limit}
    least = ""
    if wanted.min_f1 is not None and wanted.min_f1 > 0:  # the F1 of a node without scored images is undefined
        least = " AND v.latent_f1 >= :min_f1"
        values["min_f1"] = wanted.min_f1
    query = f"""
        SELECT v.* FROM (
            SELECT i.model, i.dataset, i.layer, i.tokens, i.sae_kind, y.name AS synset, n.height, n.depth, n.n_classes,
                   a.*
            FROM node_absorption a
            JOIN analysis_input i ON i.analysis_id = a.analysis_id
            JOIN synset y ON y.id = a.synset_id
            JOIN dataset_node n ON n.dataset_id = i.dataset_id AND n.synset_id = a.synset_id
        ) v
        WHERE true{of_scores(wanted, values)}{least}
        ORDER BY v.absorbed_share DESC NULLS LAST, v.n_present DESC, v.analysis_id, v.synset_id, v.seed
        LIMIT :limit
    """  # noqa: S608 -- conditions name our columns, values are bound
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def absorption_means(session: Session, analysis_ids: Sequence[int]) -> list[Row]:
    """Means over the nodes that a latent stands for, one row per basis (all its seeds), the SAE's first."""
    query = """
        SELECT a.basis, count(*) AS n_nodes, avg(a.direction_f1) AS direction_f1, avg(a.silent_share) AS silent_share,
               avg(a.absorbed_share) AS absorbed_share, avg(a.random_absorbed_share) AS random_absorbed_share
        FROM node_absorption a
        WHERE a.analysis_id = ANY(:analyses) AND a.latent_f1 >= :least AND a.n_present > 0
        GROUP BY a.basis ORDER BY array_position(CAST(:bases AS text[]), a.basis)
    """
    given = {"analyses": list(analysis_ids), "least": LEAST_F1, "bases": list(BASES)}
    return [dict(row) for row in session.execute(text(query), given).mappings()]
