"""Latents that say the same as one row: a small data set gives many that fire on the same images."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def alike_latents(rows: Sequence[Mapping[str, Any]], same: Collection[str]) -> list[Row]:
    """One row for all that have equal values of `same`: the first of them, with `latents`, the numbers of all."""
    merged: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row.get(name) for name in same)
        merged.setdefault(key, {**row, "latents": []})["latents"].append(row["latent"])
    return list(merged.values())
