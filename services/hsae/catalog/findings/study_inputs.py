"""The input of a comparison: the analyses, and the replicates of their headline numbers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session


class AnalysisRow(NamedTuple):
    """An analysis with its layer, and its SAE with its config and its stored weights.

    `fold` is 1 where the first half of the images is scored, which the second trains; of all others 0.
    """

    id: int
    key: str
    layer: int
    sae_config: dict[str, Any]
    sae_key: str
    weights_sha256: str
    fold: int = 0


class ReplicateRow(NamedTuple):
    """One headline number of one basis of an analysis; None where undefined."""

    basis: str
    seed: int
    metric: str
    value: float | None
    n: int
    replicates: list[float | None]


def analyses_by_key(session: Session, keys: Sequence[str]) -> list[AnalysisRow]:
    """The analyses with these keys that exist, by id."""
    query = """
        SELECT i.analysis_id, i.analysis_key, i.layer, i.sae_config, i.sae_key, e.weights_sha256,
               coalesce((i.split ->> 'fold')::integer, 0)
        FROM analysis_input i JOIN sae e ON e.id = i.sae_id
        WHERE i.analysis_key = ANY(:keys) ORDER BY i.analysis_id
    """
    return [AnalysisRow(*row) for row in session.execute(text(query), {"keys": list(keys)})]


def replicate_rows(session: Session, analysis_id: int) -> list[ReplicateRow]:
    """The headline numbers of all bases of an analysis, `sae` first, then by basis, seed and metric."""
    query = """
        SELECT basis, seed, metric, value, n, replicates FROM layer_replicate
        WHERE analysis_id = :id ORDER BY basis <> 'sae', basis, seed, metric
    """
    return [ReplicateRow(*row) for row in session.execute(text(query), {"id": analysis_id})]
