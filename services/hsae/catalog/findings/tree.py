"""A part of a data set's induced taxonomy with the best latent of every node."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.findings.controls import with_controls
from hsae.catalog.queries.conditions import Row, of_scores
from hsae.catalog.queries.score_filter import LatentFilter
from hsae.errors import UserError


def find_tree(
    session: Session, nodes: Sequence[int], *, dataset: str | None = None, analysis_ids: Sequence[int] | None = None
) -> Row:
    """The analysed data set whose taxonomy has one of `nodes`: dataset_id, dataset, synset_id of that node.

    Raises:
        UserError: there is none, or more than one.
    """
    found = session.execute(
        text(
            """
            SELECT d.id AS dataset_id, d.name AS dataset, n.synset_id
            FROM dataset d JOIN dataset_node n ON n.dataset_id = d.id AND n.synset_id = ANY(:nodes)
            WHERE (CAST(:dataset AS text) IS NULL OR d.name = :dataset) AND d.id IN (
                SELECT a.dataset_id FROM analysis a
                WHERE CAST(:analyses AS bigint[]) IS NULL OR a.id = ANY(:analyses))
            ORDER BY d.name
            """
        ),
        {"nodes": list(nodes), "dataset": dataset, "analyses": None if analysis_ids is None else list(analysis_ids)},
    )
    rows = [dict(row) for row in found.mappings()]
    if not rows:
        raise UserError("no analysed data set that fits has this node: see `hsae-admin results layers --study all`")
    if len(rows) > 1:
        names = ", ".join(row["dataset"] for row in rows)
        raise UserError(f"{len(rows)} analysed data sets have this node ({names}): choose one with --dataset")
    return rows[0]


def tree_nodes(session: Session, *, dataset_id: int, root: int, depth: int | None) -> list[Row]:
    """The nodes at or under `root` (by at most `depth` edges), by name.

    Each has synset_id, wnid, synset, height, n_classes, n_images, and the names and ids of *all* its hypernyms,
    `hypernyms` and `hypernym_ids`, including those outside of the subtree.
    """
    query = """
        SELECT n.synset_id, y.wnid, y.name AS synset, n.height, n.n_classes, n.n_images, up.hypernyms, up.hypernym_ids
        FROM hypernym_closure c
        JOIN dataset_node n ON n.synset_id = c.descendant_id AND n.dataset_id = :dataset
        JOIN synset y ON y.id = n.synset_id
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(p.name ORDER BY p.name), '{}') AS hypernyms,
                   coalesce(array_agg(p.id ORDER BY p.name), '{}') AS hypernym_ids
            FROM hypernym h JOIN synset p ON p.id = h.hypernym_id WHERE h.synset_id = n.synset_id) up
        WHERE c.ancestor_id = :root AND (CAST(:depth AS integer) IS NULL OR c.distance <= :depth)
        ORDER BY y.name
    """
    values = {"dataset": dataset_id, "root": root, "depth": depth}
    return [dict(row) for row in session.execute(text(query), values).mappings()]


def best_latents(session: Session, wanted: LatentFilter) -> dict[int, Row]:
    """The best latent of each node over all analyses that fit, by the node's id.

    For the basis `sae` also what its controls reach there (`with_controls`).
    """
    values: Row = {"limit": wanted.limit}
    where = of_scores(wanted, values)
    for column, comparison, value in (("f1", ">=", wanted.min_f1), ("q_node", "<=", wanted.max_q)):
        if value is not None:
            where += f" AND v.{column} {comparison} :{column}"
            values[column] = value
    query = f"""
        SELECT DISTINCT ON (v.synset_id) v.synset_id, v.analysis_id, v.layer, v.sae_kind, v.basis, v.seed, v.latent,
               v.f1, v.f1_adjusted, v.precision, v.recall, v.auroc, v.q_node, v.n_fire
        FROM node_best_latent v WHERE true{where}
        ORDER BY v.synset_id, v.f1 DESC NULLS LAST, v.layer, v.analysis_id, v.seed, v.latent
        LIMIT :limit
    """  # noqa: S608 -- conditions name our columns, values are bound
    query = with_controls(query, basis=wanted.basis, order="v.synset_id")
    return {row["synset_id"]: dict(row) for row in session.execute(text(query), values).mappings()}
