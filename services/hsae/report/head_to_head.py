"""Compare two groups of analyses, A and B, height by height."""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from hsae.hierarchy.config import MIN_INNER_CLASSES

Row = dict[str, Any]


def by_height(nodes: Sequence[Mapping[str, Any]], controls: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """One row per height, greatest first, then one row for all inner nodes and one for all nodes.

    Args:
        nodes: rows with synset_id, height, n_classes, f1_a and f1_b.
        controls: F1 of the same nodes in the control bases, by basis.

    Returns:
        Rows with `group` (height H, inner, all), n_nodes, the means f1_a and f1_b, `difference` (B - A), the nodes that
        each side wins (wins_a, wins_b, ties), and f1_a_<control>, f1_b_<control>; a node missing in a control counts 0.
    """
    f1_of = {
        control: {row["synset_id"]: (row["f1_a"], row["f1_b"]) for row in rows} for control, rows in controls.items()
    }
    heights = sorted({row["height"] for row in nodes}, reverse=True)
    groups = [(f"height {height}", [row for row in nodes if row["height"] == height]) for height in heights]
    groups.append(("inner", [row for row in nodes if row["n_classes"] >= MIN_INNER_CLASSES]))
    groups.append(("all", list(nodes)))
    return [_group(name, members, f1_of) for name, members in groups if members]


def greatest_differences(nodes: Sequence[Mapping[str, Any]], n: int) -> tuple[list[Row], list[Row]]:
    """The `n` nodes at which A leads most, and those at which B leads most; sorted by lead, then by name."""
    rows = [{**row, "difference": row["f1_b"] - row["f1_a"]} for row in nodes]
    ahead_a = sorted((row for row in rows if row["difference"] < 0), key=lambda r: (r["difference"], r["synset"]))
    ahead_b = sorted((row for row in rows if row["difference"] > 0), key=lambda r: (-r["difference"], r["synset"]))
    return ahead_a[:n], ahead_b[:n]


def _group(
    name: str, members: Sequence[Mapping[str, Any]], controls: Mapping[str, Mapping[int, tuple[float, float]]]
) -> Row:
    mean_a, mean_b = (fsum(row[side] for row in members) / len(members) for side in ("f1_a", "f1_b"))
    wins_a = sum(row["f1_a"] > row["f1_b"] for row in members)
    wins_b = sum(row["f1_b"] > row["f1_a"] for row in members)
    result: Row = {
        "group": name, "n_nodes": len(members), "f1_a": mean_a, "f1_b": mean_b, "difference": mean_b - mean_a,
        "wins_a": wins_a, "wins_b": wins_b, "ties": len(members) - wins_a - wins_b,
    }  # fmt: skip
    for control, f1 in controls.items():
        pairs = [f1.get(row["synset_id"], (0.0, 0.0)) for row in members]
        result[f"f1_a_{control}"] = fsum(pair[0] for pair in pairs) / len(pairs)
        result[f"f1_b_{control}"] = fsum(pair[1] for pair in pairs) / len(pairs)
    return result
