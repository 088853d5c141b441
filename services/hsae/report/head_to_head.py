"""Compare two groups of analyses, A and B, height by height."""

from collections.abc import Mapping, Sequence
from math import fsum
from typing import Any

from hsae.hierarchy.config import MIN_INNER_CLASSES

Row = dict[str, Any]

_SIDES = ("f1_adjusted_a", "f1_adjusted_b", "f1_a", "f1_b")


def by_height(nodes: Sequence[Mapping[str, Any]], controls: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Row]:
    """One row per height, greatest first, then one row for all inner nodes and one for all nodes.

    Only nodes that stand for their set of images count: others would count the same images again.

    Args:
        nodes: rows with synset_id, height, n_classes, is_distinct, and by side the adjusted F1 (f1_adjusted_a,
            f1_adjusted_b) and the F1 as it is (f1_a, f1_b).
        controls: the same of the same nodes in the control bases, by basis.

    Returns:
        Rows with `group` (height H, inner, all), n_nodes, the means of the four, `difference` of adjusted F1 (B - A),
        the nodes that each side wins by it (wins_a, wins_b, ties), and `<mean>_<control>`; a node missing in a control
        counts 0.
    """
    of_control = {control: {row["synset_id"]: row for row in rows} for control, rows in controls.items()}
    distinct = [row for row in nodes if row["is_distinct"]]
    heights = sorted({row["height"] for row in distinct}, reverse=True)
    groups = [(f"height {height}", [row for row in distinct if row["height"] == height]) for height in heights]
    groups.append(("inner", [row for row in distinct if row["n_classes"] >= MIN_INNER_CLASSES]))
    groups.append(("all", distinct))
    return [_group(name, members, of_control) for name, members in groups if members]


def greatest_differences(nodes: Sequence[Mapping[str, Any]], n: int) -> tuple[list[Row], list[Row]]:
    """The `n` distinct nodes at which A leads most by adjusted F1, and those at which B does; by lead, then by name."""
    rows = [{**row, "difference": _difference(row)} for row in nodes if row["is_distinct"]]
    ahead_a = sorted((row for row in rows if row["difference"] < 0), key=lambda r: (r["difference"], r["synset"]))
    ahead_b = sorted((row for row in rows if row["difference"] > 0), key=lambda r: (-r["difference"], r["synset"]))
    return ahead_a[:n], ahead_b[:n]


def _group(
    name: str, members: Sequence[Mapping[str, Any]], controls: Mapping[str, Mapping[int, Mapping[str, Any]]]
) -> Row:
    means = {side: _mean([row[side] for row in members]) for side in _SIDES}
    leads = [_difference(row) for row in members]
    wins_a, wins_b = sum(lead < 0 for lead in leads), sum(lead > 0 for lead in leads)
    result: Row = {
        "group": name, "n_nodes": len(members), **means, "difference": _difference(means),
        "wins_a": wins_a, "wins_b": wins_b, "ties": len(members) - wins_a - wins_b,
    }  # fmt: skip
    for control, found in controls.items():
        rows = [found.get(row["synset_id"], {}) for row in members]
        result |= {f"{side}_{control}": _mean([row.get(side, 0.0) for row in rows]) for side in _SIDES}
    return result


def _difference(row: Mapping[str, float]) -> float:
    return row["f1_adjusted_b"] - row["f1_adjusted_a"]


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)
