"""Intervals of the headline numbers of layers, and what a shuffled taxonomy gives."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.orm import Session


class Interval(NamedTuple):
    """A headline number of a basis with its 95 % interval; of a basis with several seeds the means over them."""

    value: float | None
    low: float | None
    high: float | None


def headline_intervals(session: Session, analysis_ids: Collection[int]) -> dict[tuple[int, str, str], Interval]:
    """By analysis, basis and metric; nothing for analyses of earlier versions."""
    query = """
        SELECT analysis_id, basis, metric, avg(value) AS value, avg(low) AS low, avg(high) AS high
        FROM layer_interval WHERE analysis_id = ANY(:analyses) GROUP BY analysis_id, basis, metric
    """
    rows = session.execute(text(query), {"analyses": list(analysis_ids)})
    return {(row.analysis_id, row.basis, row.metric): Interval(row.value, row.low, row.high) for row in rows}


class ShuffledTree(NamedTuple):
    """A headline number of an SAE where the classes are permuted over the tree: mean, and 97.5 % quantile."""

    mean: float | None
    q975: float | None


def shuffled_trees(session: Session, analysis_ids: Collection[int]) -> dict[tuple[int, str], ShuffledTree]:
    """By analysis and metric what permutations of the classes over the tree give; nothing for earlier versions."""
    query = "SELECT analysis_id, metric, mean, q975 FROM layer_tree_shuffle WHERE analysis_id = ANY(:analyses)"
    rows = session.execute(text(query), {"analyses": list(analysis_ids)})
    return {(row.analysis_id, row.metric): ShuffledTree(row.mean, row.q975) for row in rows}
