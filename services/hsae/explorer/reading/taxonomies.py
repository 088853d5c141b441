"""The taxonomies of data sets: they never change, so the ones that pages asked for last are kept."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog.findings.tree import tree_nodes
from hsae.catalog.queries.measurements import taxonomy_root

_N_KEPT = 4


@dataclass(frozen=True, slots=True)
class DatasetTree:
    """The taxonomy of a data set.

    Attributes:
        root: the node that has no hypernym.
        nodes: rows with synset_id, synset, wnid, height, n_classes, n_images and hypernym_ids, by synset_id.
        below: each node's hyponyms, those with most images first.
    """

    root: int
    nodes: Mapping[int, Mapping[str, Any]]
    below: Mapping[int, Sequence[int]]

    def under(self, root: int) -> list[Mapping[str, Any]]:
        """The nodes at or under a node, each once, a node before its hyponyms."""
        found, pending = {root: self.nodes[root]}, [root]
        while pending:
            for node in self.below[pending.pop()]:
                if node not in found:
                    found[node] = self.nodes[node]
                    pending.append(node)
        return list(found.values())


class Taxonomies:
    """The taxonomies that pages asked for last; threads share them."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, DatasetTree] = OrderedDict()
        self._lock = Lock()

    def of(self, session: Session, dataset: int) -> DatasetTree:
        """The taxonomy of a data set."""
        with self._lock:
            tree = self._kept.get(dataset)
            if tree is None:
                tree = self._kept[dataset] = _read(session, dataset)
                while len(self._kept) > _N_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(dataset)
            return tree


def _read(session: Session, dataset: int) -> DatasetTree:
    root = taxonomy_root(session, dataset)
    rows = tree_nodes(session, dataset_id=dataset, root=root, depth=None)
    below: dict[int, list[int]] = {row["synset_id"]: [] for row in rows}
    for row in sorted(rows, key=lambda row: (-row["n_images"], row["synset"])):
        for parent in row["hypernym_ids"]:
            if parent in below and row["synset_id"] != root:
                below[parent].append(row["synset_id"])
    return DatasetTree(root, {row["synset_id"]: row for row in rows}, below)
