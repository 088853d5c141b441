"""The best F1, adjusted and as it is, of every node in two groups of analyses of the same images."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.errors import UserError


def analyses_of(session: Session, analyses: Sequence[int], *, layer: int | None) -> list[Row]:
    """Id and layer of the analyses of a layer (None: of all layers), by layer."""
    rows = session.execute(
        text(
            """
            SELECT i.analysis_id AS id, i.layer FROM analysis_input i
            WHERE i.analysis_id = ANY(:analyses) AND (CAST(:layer AS integer) IS NULL OR i.layer = :layer)
            ORDER BY i.layer, i.analysis_id
            """
        ),
        {"analyses": list(analyses), "layer": layer},
    )
    return [dict(row) for row in rows.mappings()]


def common_dataset(session: Session, analyses: Sequence[int]) -> int:
    """The data set of all these analyses.

    Raises:
        UserError: they have several data sets, so their F1 cannot be compared.
    """
    rows = session.execute(
        text(
            "SELECT DISTINCT i.dataset_id, i.dataset FROM analysis_input i"
            " WHERE i.analysis_id = ANY(:analyses) ORDER BY i.dataset"
        ),
        {"analyses": list(analyses)},
    ).all()
    if len(rows) != 1:
        names = " and ".join(row.dataset for row in rows)
        raise UserError(f"scores of different images do not compare ({names}): choose analyses of one data set")
    return int(rows[0].dataset_id)


def common_bases(session: Session, analyses: Sequence[int]) -> set[str]:
    """The bases that were scored in every one of these analyses."""
    rows = session.execute(
        text(
            "SELECT basis FROM layer_score WHERE analysis_id = ANY(:analyses)"
            " GROUP BY basis HAVING count(DISTINCT analysis_id) = :n"
        ),
        {"analyses": list(analyses), "n": len(set(analyses))},
    )
    return set(rows.scalars())


def node_pairs(
    session: Session,
    first: Sequence[int],
    second: Sequence[int],
    *,
    dataset_id: int,
    basis: str,
    under: Sequence[int] | None = None,
) -> list[Row]:
    """The best F1 of every node in the analyses of `first` and of `second`, by falling height, then name.

    It is the maximum over the analyses of each group; for a shuffled basis, of the mean over its stored seeds. A node
    on which no latent fires has 0. Nodes without scored images and nodes with all of them are left out.

    Returns:
        Rows with `f1_adjusted_a` and `f1_adjusted_b` (below 0 counts as 0, as in layer_score), the F1 as it is (`f1_a`,
        `f1_b`), and `is_distinct`: whether the node stands for its set of images in all of these analyses (true where
        that is unknown, as in analyses of earlier versions).
    """
    values: dict[str, Any] = {
        "first": list(first), "second": list(second), "both": sorted({*first, *second}),
        "dataset": dataset_id, "basis": basis, "under": None if under is None else list(under),
    }  # fmt: skip
    query = """
        WITH best AS (
            SELECT r.synset_id, r.analysis_id, avg(coalesce(r.f1, 0)) AS f1,
                   avg(greatest(0, coalesce(r.f1_adjusted, (r.f1 - c.f1) / nullif(1 - c.f1, 0)))) AS f1_adjusted,
                   bool_or(r.n_images IN (0, n.scored)) AS holds_all
            FROM node_score r JOIN analysis a ON a.id = r.analysis_id
            CROSS JOIN LATERAL (SELECT coalesce(a.n_score, a.n_images) AS scored) n
            CROSS JOIN LATERAL (  -- of a latent that always fires: analyses of earlier versions store no adjusted F1
                SELECT 2.0 * r.n_images / nullif(n.scored + r.n_images, 0) AS f1) c
            WHERE r.is_node_best AND r.basis = :basis AND r.analysis_id = ANY(:both)
            GROUP BY r.synset_id, r.analysis_id
        ), standing AS (
            SELECT r.synset_id, bool_and(coalesce(r.is_distinct, true)) AS is_distinct
            FROM node_score r
            WHERE r.is_node_best AND r.analysis_id = ANY(:both)
              AND r.basis NOT IN ('shuffled_labels', 'shuffled_taxonomy')  -- whose nodes hold other images
            GROUP BY r.synset_id
        )
        SELECT n.synset_id, y.wnid, y.name AS synset, n.height, n.n_classes, n.n_images,
               coalesce(bool_and(s.is_distinct), true) AS is_distinct,
               coalesce(max(b.f1_adjusted) FILTER (WHERE b.analysis_id = ANY(:first)), 0) AS f1_adjusted_a,
               coalesce(max(b.f1_adjusted) FILTER (WHERE b.analysis_id = ANY(:second)), 0) AS f1_adjusted_b,
               coalesce(max(b.f1) FILTER (WHERE b.analysis_id = ANY(:first)), 0) AS f1_a,
               coalesce(max(b.f1) FILTER (WHERE b.analysis_id = ANY(:second)), 0) AS f1_b
        FROM dataset_node n
        JOIN dataset d ON d.id = n.dataset_id
        JOIN synset y ON y.id = n.synset_id
        LEFT JOIN best b ON b.synset_id = n.synset_id
        LEFT JOIN standing s ON s.synset_id = n.synset_id
        WHERE n.dataset_id = :dataset AND n.n_images > 0 AND n.n_images < d.n_images
          AND (CAST(:under AS bigint[]) IS NULL OR n.synset_id IN (
              SELECT c.descendant_id FROM hypernym_closure c WHERE c.ancestor_id = ANY(:under)))
        GROUP BY n.synset_id, y.wnid, y.name, n.height, n.n_classes, n.n_images
        HAVING NOT coalesce(bool_or(b.holds_all), false)
        ORDER BY n.height DESC, y.name
    """
    return [dict(row) for row in session.execute(text(query), values).mappings()]
