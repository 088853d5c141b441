"""A part of a data set's induced taxonomy with the best latent of every node."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.catalog.conditions import Row
from hsae.errors import UserError

_CONTROLS = ("neuron", "shuffled_taxonomy")


def find_tree(
    session: Session, nodes: Sequence[int], *, dataset: str | None = None, analysis_ids: Sequence[int] | None = None
) -> Row:
    """The analysed data set whose taxonomy holds one of `nodes`: dataset_id, dataset, synset_id of that node.

    Raises:
        UserError: when there is none, or more than one.
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
        raise UserError("no analysed data set that fits has this node: see `hsae-admin results layers`")
    if len(rows) > 1:
        names = ", ".join(row["dataset"] for row in rows)
        raise UserError(f"{len(rows)} analysed data sets have this node ({names}): choose one with --dataset")
    return rows[0]


def tree_nodes(session: Session, *, dataset_id: int, root: int, depth: int | None) -> list[Row]:
    """The nodes at or under `root` (by at most `depth` edges), by name.

    Each has synset_id, wnid, synset, height, n_classes, n_images, and the names and ids of *all* its hypernyms, those
    outside of the subtree included: `hypernyms`, `hypernym_ids`.
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


def best_latents(
    session: Session,
    nodes: Sequence[int],
    *,
    dataset: str,
    basis: str,
    layer: int | None = None,
    sae_kind: str | None = None,
    analysis_ids: Sequence[int] | None = None,
) -> dict[int, Row]:
    """The best latent of each node over all analyses of a data set that fit, by the node's id.

    Of the basis `sae` also what its controls reach at the same node of the same analysis: `f1_neuron`, and
    `f1_shuffled_taxonomy` as the mean over seeds. A node where no column of a control fires counts as 0 there.
    """
    where = ""
    values: dict[str, Any] = {"nodes": list(nodes), "dataset": dataset, "basis": basis}
    for name, value in (("layer", layer), ("sae_kind", sae_kind)):
        if value is not None:
            where += f" AND v.{name} = :{name}"
            values[name] = value
    if analysis_ids is not None:
        where += " AND v.analysis_id = ANY(:analyses)"
        values["analyses"] = list(analysis_ids)
    query = f"""
        SELECT DISTINCT ON (v.synset_id) v.synset_id, v.analysis_id, v.layer, v.sae_kind, v.basis, v.seed, v.latent,
               v.f1, v.precision, v.recall, v.auroc, v.q, v.n_fire
        FROM node_best_latent v
        WHERE v.synset_id = ANY(:nodes) AND v.dataset = :dataset AND v.basis = :basis{where}
        ORDER BY v.synset_id, v.f1 DESC NULLS LAST, v.layer, v.analysis_id, v.seed, v.latent
    """  # noqa: S608 -- column names come from this module, values are bound
    best = {row["synset_id"]: dict(row) for row in session.execute(text(query), values).mappings()}
    if basis == "sae" and best:
        _add_controls(session, best)
    return best


def _add_controls(session: Session, best: dict[int, Row]) -> None:
    analyses = sorted({row["analysis_id"] for row in best.values()})
    n_seeds = {
        (row.analysis_id, row.basis): row.n_seeds
        for row in session.execute(
            text(
                "SELECT analysis_id, basis, count(*) AS n_seeds FROM layer_score"
                " WHERE analysis_id = ANY(:analyses) AND basis = ANY(:bases) GROUP BY analysis_id, basis"
            ),
            {"analyses": analyses, "bases": list(_CONTROLS)},
        )
    }
    sums = {
        (row.analysis_id, row.basis, row.synset_id): row.f1
        for row in session.execute(
            text(
                "SELECT r.analysis_id, r.basis, r.synset_id, sum(r.f1) AS f1"
                " FROM unnest(CAST(:nodes AS bigint[]), CAST(:analyses AS bigint[])) AS w(synset_id, analysis_id)"
                " JOIN node_score r ON r.synset_id = w.synset_id AND r.analysis_id = w.analysis_id"
                " WHERE r.is_node_best AND r.basis = ANY(:bases) GROUP BY r.analysis_id, r.basis, r.synset_id"
            ),
            {
                "nodes": list(best),
                "analyses": [row["analysis_id"] for row in best.values()],
                "bases": list(_CONTROLS),
            },
        )
    }
    for node, row in best.items():
        for control in _CONTROLS:
            seeds = n_seeds.get((row["analysis_id"], control), 0)
            total = sums.get((row["analysis_id"], control, node)) or 0.0
            row[f"f1_{control}"] = total / seeds if seeds else None
