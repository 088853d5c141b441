"""The input of a comparison: the analyses' rows of nodes and latents."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from sqlalchemy import text
from sqlalchemy.orm import Session

_LATENT_SCORES = ("lch_height", "coverage", "monosemanticity", "class_entropy", "label_f1")


class AnalysisRow(NamedTuple):
    """An analysis with its layer and the config of its SAE."""

    id: int
    key: str
    layer: int
    sae_config: dict[str, Any]


class BestF1(NamedTuple):
    """The best F1 of any latent at a node, in one basis and seed; `holds_all`: of the scored images, or none."""

    basis: str
    seed: int
    wnid: str
    f1: float
    holds_all: bool


def analyses_by_key(session: Session, keys: Sequence[str]) -> list[AnalysisRow]:
    """The analyses with these keys that exist, by id."""
    query = """
        SELECT i.analysis_id, i.analysis_key, i.layer, i.sae_config
        FROM analysis_input i WHERE i.analysis_key = ANY(:keys) ORDER BY i.analysis_id
    """
    return [AnalysisRow(*row) for row in session.execute(text(query), {"keys": list(keys)})]


def countable_nodes(session: Session, dataset_id: int) -> dict[str, int]:
    """By wnid the number of classes under every node that has some of the data set's images, but not all."""
    query = """
        SELECT y.wnid, n.n_classes FROM dataset_node n
        JOIN dataset d ON d.id = n.dataset_id JOIN synset y ON y.id = n.synset_id
        WHERE n.dataset_id = :dataset AND n.n_images > 0 AND n.n_images < d.n_images
    """
    return {row.wnid: row.n_classes for row in session.execute(text(query), {"dataset": dataset_id})}


def seeds_of_bases(session: Session, analysis_id: int) -> dict[str, int]:
    """Number of seeds that each basis of an analysis was scored with, `sae` first, then by name."""
    query = "SELECT basis, count(*) FROM layer_score WHERE analysis_id = :id GROUP BY basis"
    found = {row.basis: row.count for row in session.execute(text(query), {"id": analysis_id})}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "sae", item[0])))


def best_f1_rows(session: Session, analysis_id: int) -> list[BestF1]:
    """The stored best F1 of every node; a node on which no latent fires may be missing, or have 0."""
    query = """
        SELECT r.basis, r.seed, y.wnid, coalesce(r.f1, 0) AS f1,
               r.n_images IN (0, coalesce(a.n_score, a.n_images)) AS holds_all
        FROM node_score r JOIN analysis a ON a.id = r.analysis_id JOIN synset y ON y.id = r.synset_id
        WHERE r.analysis_id = :id AND r.is_node_best ORDER BY r.basis, r.seed, r.synset_id
    """
    return [BestF1(*row) for row in session.execute(text(query), {"id": analysis_id})]


def latent_scores(session: Session, analysis_id: int) -> dict[str, dict[str, Float64[np.ndarray, "n_latents"]]]:
    """By basis and score the values of all latents, in their order; NaN where undefined."""
    query = f"""
        SELECT basis, {", ".join(_LATENT_SCORES)} FROM latent WHERE analysis_id = :id ORDER BY basis, latent
    """  # noqa: S608 -- names of columns, ours
    rows: dict[str, list[tuple[float | None, ...]]] = {}
    for basis, *values in session.execute(text(query), {"id": analysis_id}):
        rows.setdefault(basis, []).append(tuple(values))
    return {
        basis: dict(zip(_LATENT_SCORES, np.array(values, dtype=np.float64).T, strict=True))
        for basis, values in rows.items()
    }
