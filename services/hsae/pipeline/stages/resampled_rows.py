"""Resampled headline numbers as rows of the catalog."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.resampling.tree_shuffles import quantiles

_REPLICATE = pa.schema(
    [
        ("analysis_id", pa.int64()),
        ("basis", pa.string()),
        ("seed", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("n", pa.int64()),
        ("replicates", pa.string()),
    ]
)
_SHUFFLES = ("mean", "sd", "q025", "q975")


def layer_replicate_rows(analysis_id: int, results: Sequence[BasisResult]) -> pa.Table:
    """Rows of layer_replicate of all bases of an analysis."""
    rows = [
        {
            "analysis_id": analysis_id,
            "basis": result.basis,
            "seed": result.seed,
            "metric": metric,
            "value": _null(quantity.value),
            "n": quantity.n,
            "replicates": _array(quantity.replicates.tolist()),
        }
        for result in results
        if result.resampled is not None
        for metric, quantity in result.resampled.replicates.items()
    ]
    return pa.Table.from_pylist(rows, schema=_REPLICATE)


def layer_tree_shuffle_rows(analysis_id: int, results: Sequence[BasisResult]) -> list[dict[str, Any]]:
    """Rows of layer_tree_shuffle of an analysis."""
    return [
        {
            "analysis_id": analysis_id,
            "basis": result.basis,
            "metric": metric,
            "value": _null(trees.value),
            "n_shuffles": len(trees.shuffled),
            "p": _null(trees.p),
            **{name: _null(value) for name, value in zip(_SHUFFLES, quantiles(trees.shuffled), strict=True)},
        }
        for result in results
        if result.resampled is not None
        for metric, trees in result.resampled.trees.items()
    ]


def _array(values: Iterable[float]) -> str:
    """An array as Postgres reads it; every float64 comes back to the last bit."""
    return "{" + ",".join("NULL" if np.isnan(value) else repr(value) for value in values) + "}"


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value
