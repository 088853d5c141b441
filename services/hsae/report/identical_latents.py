"""Merge latents with identical values into one row. In a small data set many latents fire on the same images."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def merge_identical_latents(rows: Sequence[Mapping[str, Any]], same: Collection[str]) -> list[Row]:
    """Merge rows of latents that are equal in some columns.

    Args:
        rows: rows with the column `latent`.
        same: names of the columns to compare.

    Returns:
        The first row of every group, with `latents`: the numbers of all latents of the group.
    """
    merged: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row.get(name) for name in same)
        merged.setdefault(key, {**row, "latents": []})["latents"].append(row["latent"])
    return list(merged.values())
