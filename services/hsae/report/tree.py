"""A part of a taxonomy as the lines of a tree. The taxonomy is a DAG: a node with several hypernyms is repeated."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def keep_with_ancestors(nodes: Sequence[Mapping[str, Any]], root: int, wanted: set[int]) -> list[Mapping[str, Any]]:
    """The wanted nodes, the root, and all nodes between them, as rows with synset_id and hypernym_ids."""
    parents = {row["synset_id"]: row["hypernym_ids"] for row in nodes}
    kept = {root}
    pending = [node for node in wanted if node in parents]
    while pending:
        node = pending.pop()
        if node not in kept:
            kept.add(node)
            pending.extend(parent for parent in parents[node] if parent in parents)
    return [row for row in nodes if row["synset_id"] in kept]


def tree_lines(nodes: Sequence[Mapping[str, Any]], root: int) -> list[Row]:
    """The lines of the tree below `root`; a node has a line under each of its hypernyms that is in `nodes`.

    Hyponyms follow a node only at its first line; siblings keep the order of `nodes`.

    Args:
        nodes: rows with synset_id, synset, hypernym_ids and hypernyms (all hypernyms of the node, in the same order).
        root: synset_id of the root.

    Returns:
        The rows, each with `line` (branches, name, mark), `level` (0 for the root), `again` (it was printed before) and
        `is_shortened`: below a node whose name begins its own, as in rank paths (`Animalia/Chordata` below `Animalia`),
        a node is printed by the rest alone. The mark names the other hypernyms.
    """
    by_id = {row["synset_id"]: row for row in nodes}
    children: dict[int, list[int]] = {node: [] for node in by_id}
    for row in nodes:
        for parent in row["hypernym_ids"]:
            if parent in children and row["synset_id"] != root:
                children[parent].append(row["synset_id"])
    lines: list[Row] = []
    expanded: set[int] = set()
    pending: list[tuple[int, int | None, tuple[bool, ...]]] = [(root, None, ())]  # node, parent, last children
    while pending:
        node, under, is_last = pending.pop()
        row = by_id[node]
        again = node in expanded
        mark = "" if under is None else _mark(row, under, again=again and bool(children[node]))
        name = row["synset"] if under is None else row["synset"].removeprefix(f"{by_id[under]['synset']}/")
        lines.append(
            {
                **row,
                "line": _branches(is_last) + name + mark,
                "level": len(is_last),
                "again": again,
                "is_shortened": name != row["synset"],
            }
        )
        if not again:
            expanded.add(node)
            below = children[node]
            for place in reversed(range(len(below))):
                pending.append((below[place], node, (*is_last, place == len(below) - 1)))
    return lines


def _branches(is_last: tuple[bool, ...]) -> str:
    if not is_last:
        return ""
    return "".join("   " if last else "│  " for last in is_last[:-1]) + ("└─ " if is_last[-1] else "├─ ")


def _mark(row: Mapping[str, Any], under: int, *, again: bool) -> str:
    others = [name for name, parent in zip(row["hypernyms"], row["hypernym_ids"], strict=True) if parent != under]
    if not others:
        return ""
    return f" (also {', '.join(others)}{'; hyponyms above' if again else ''})"
