"""The induced taxonomy of a data set: its classes, their hypernym ancestors, and the closure."""

import graphlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32
from numpy.typing import NDArray
from scipy import sparse

from hsae.errors import UserError
from hsae.taxonomy.taxonomy import Synset, Taxonomy

_FORMAT = "hsae.induced-taxonomy/1"
# Bounds the memory of `lowest_common`: a block's product holds at most block x n_nodes counts.
_LCH_BLOCK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class InducedTaxonomy:
    """The classes of a data set and all their hypernym ancestors, as a rooted DAG of numbered nodes.

    A node may have several parents, and all of them count. A class may be an ancestor of another class. The arrays are
    read-only. Two induced taxonomies are equal if their `key` is equal.
    """

    synsets: tuple[Synset, ...]
    """The nodes, sorted by id; a node's number is its index here."""
    classes: Int32[np.ndarray, "n_classes"]
    """Node of every class, ascending; a class's *position* is its index here."""
    hypernym_edges: Int32[np.ndarray, "n_edges 2"]
    """(child, parent) nodes, sorted."""
    height: Int32[np.ndarray, "n_nodes"]
    """Edges on the longest downward path to a node without children; 0 for such a node."""
    depth: Int32[np.ndarray, "n_nodes"]
    """Edges on the shortest path from the root; 0 for the root."""
    closure: sparse.csr_array[np.uint8]
    """uint8[n_classes, n_nodes]: 1 if the node is the class or an ancestor of it. Cast it before a product with
    integers: uint8 overflows at 256."""
    leaf_counts: Int32[np.ndarray, "n_nodes"]
    """Classes at or under every node."""
    root: int
    """The node without a parent."""

    def node_closure(self) -> Int32[np.ndarray, "n_pairs 3"]:
        """All pairs of a node and an ancestor, sorted, including every node with itself.

        Returns:
            Rows (descendant, ancestor, distance); distance is the number of edges on the shortest upward path.
        """
        distances = _upward_distances(_parents(len(self.synsets), self.hypernym_edges.tolist()))
        pairs = [
            (node, ancestor, distance)
            for node, above in enumerate(distances)
            for ancestor, distance in sorted(above.items())
        ]
        return np.array(pairs, dtype=np.int32)

    def lch(self, class_positions: Sequence[int] | Int[np.ndarray, "n"]) -> int:
        """The lowest common hypernym (LCH) of some classes; -1 without classes.

        It is the common hypernym with the least height: `argmin height(v)` over all `v` with `K ⊆ L_v`, where `K` are
        these classes and `L_v` the classes at or under `v` (arXiv 2505.15970). Ties (ours): the fewest classes under
        it, then the smallest id.
        """
        positions = np.unique(np.asarray(class_positions, dtype=np.int64))
        indptr = np.array([0, len(positions)])
        shape = (1, len(self.classes))
        if len(positions) and (positions[0] < 0 or positions[-1] >= shape[1]):
            raise ValueError(f"class positions must lie in 0..{shape[1] - 1}")
        return int(self.lch_many(sparse.csr_array((np.ones(len(positions)), positions, indptr), shape=shape))[0])

    def lch_many(self, class_sets: sparse.csr_array) -> Int32[np.ndarray, "n_sets"]:
        """`lch` of many sets of classes.

        Args:
            class_sets: any numeric dtype, [n_sets, n_classes]; non-zero for the classes of the set.

        Returns:
            The node of every set; -1 for an empty set.
        """
        n_classes = class_sets.shape[1]
        if n_classes != len(self.classes):
            raise ValueError(f"class_sets has {n_classes} columns and the taxonomy {len(self.classes)} classes")
        return self.lowest_common(class_sets, self.closure)

    def lowest_common(self, sets: sparse.csr_array, closure: sparse.csr_array[np.uint8]) -> Int32[np.ndarray, "n_sets"]:
        """`lch` of sets of items that lie under nodes, such as images with several classes.

        Args:
            sets: any numeric dtype, [n_sets, n_items]; non-zero for the items of the set.
            closure: [n_items, n_nodes], 1 if the item lies under the node; all items lie under the root.

        Returns:
            The node of every set; -1 for an empty set.
        """
        n_sets = sets.shape[0]
        n_nodes = len(self.synsets)
        # Nodes in order of preference, so that the first common column is the LCH.
        order = np.lexsort((np.arange(n_nodes), self.leaf_counts, self.height)).astype(np.int32)
        under = closure.astype(np.int32)[:, order]
        nodes = np.full(n_sets, -1, dtype=np.int32)
        for start in range(0, n_sets, _LCH_BLOCK):
            members = _membership(sets[start : start + _LCH_BLOCK])
            sizes = np.diff(members.indptr)
            n_under = sparse.csr_array(members @ under)  # members of each set under each node
            filled = np.flatnonzero(sizes)
            if not len(filled):
                continue
            is_common = n_under.data == np.repeat(sizes, np.diff(n_under.indptr))
            columns = np.where(is_common, n_under.indices, n_nodes)
            # Rows of empty sets have no entries, so the segments of the other rows are contiguous.
            first = np.minimum.reduceat(columns, n_under.indptr[:-1][filled])
            nodes[start + filled] = order[first]  # in range: the root is common to every set
        return nodes

    def to_json(self) -> str:
        """The canonical text of the taxonomy: sorted keys, no spaces, ASCII."""
        content = {
            "format": _FORMAT,
            "synsets": [
                {"id": s.id, "name": s.name, "lemmas": s.lemmas, "definition": s.definition} for s in self.synsets
            ],
            "classes": self.classes.tolist(),
            "hypernym_edges": self.hypernym_edges.tolist(),
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "InducedTaxonomy":
        """The inverse of `to_json`.

        Raises:
            UserError: the text is not a canonical induced taxonomy.
        """
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise UserError(f"not an induced taxonomy of format {_FORMAT}, but {content['format']!r}")
            synsets = [Synset(s["id"], s["name"], tuple(s["lemmas"]), s["definition"]) for s in content["synsets"]]
            edges = [(int(child), int(parent)) for child, parent in content["hypernym_edges"]]
            classes = [int(node) for node in content["classes"]]
            if classes and not 0 <= min(classes) <= max(classes) < len(synsets):
                raise ValueError("a class is no node")
            induced = _build(synsets, sorted(set(classes)), edges)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"not an induced taxonomy: {type(error).__name__} ({error})") from error
        ids = [synset.id for synset in synsets]
        if ids != sorted(set(ids)) or not induced.leaf_counts.all():
            raise UserError("not an induced taxonomy: nodes out of order, or above no class")
        if induced.to_json() != text:
            raise UserError("not an induced taxonomy: its text is not canonical, so its key would differ")
        return induced

    @property
    def key(self) -> str:
        """sha256 (hex) of `to_json()`; part of the key of everything that is computed with the taxonomy."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, InducedTaxonomy) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.synsets, self.classes.tobytes()))


def induce(taxonomy: Taxonomy, class_ids: Iterable[str]) -> InducedTaxonomy:
    """The taxonomy induced by classes: these synsets and all their hypernym ancestors.

    Args:
        taxonomy: the whole taxonomy.
        class_ids: `Synset.id` of every class, in any order; duplicates are allowed.

    Raises:
        UserError: there is no class, or an id is unknown.
    """
    wanted = set(class_ids)
    parents: dict[str, tuple[str, ...]] = {}
    pending = sorted(wanted)
    while pending:
        synset_id = pending.pop()
        if synset_id not in parents:
            parents[synset_id] = taxonomy.hypernyms(synset_id)
            pending.extend(parents[synset_id])
    ids = sorted(parents)
    number = {synset_id: node for node, synset_id in enumerate(ids)}
    edges = [(number[child], number[parent]) for child in ids for parent in parents[child]]
    return _build([taxonomy.synset(synset_id) for synset_id in ids], sorted(number[c] for c in wanted), edges)


def _build(synsets: Sequence[Synset], classes: Sequence[int], edges: Iterable[tuple[int, int]]) -> InducedTaxonomy:
    """Derive every array from the nodes (sorted by id), the classes' nodes and the (child, parent) edges."""
    if not classes:
        raise UserError("a taxonomy is induced by classes, and there is none")
    edges = sorted(set(edges))
    n_nodes = len(synsets)
    parents = _parents(n_nodes, edges)
    try:
        order = _ancestors_first(parents)
    except graphlib.CycleError as error:
        cycle = " -> ".join(synsets[node].name for node in error.args[1])
        raise UserError(f"the hypernyms form a cycle: {cycle}") from error
    roots = [node for node in range(n_nodes) if not parents[node]]
    if len(roots) != 1:
        names = ", ".join(synsets[node].name for node in roots[:8])
        raise UserError(f"the hypernyms of the classes end at {len(roots)} roots ({names}) and must end at one")

    height = np.zeros(n_nodes, dtype=np.int32)
    for node in reversed(order):
        for parent in parents[node]:
            height[parent] = max(height[parent], height[node] + 1)

    distances = _upward_distances(parents)
    depth = np.array([above[roots[0]] for above in distances], dtype=np.int32)
    rows = [sorted(distances[node]) for node in classes]
    indices = np.array([ancestor for row in rows for ancestor in row], dtype=np.int32)
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int32)
    closure = sparse.csr_array((np.ones(len(indices), dtype=np.uint8), indices, indptr), shape=(len(classes), n_nodes))
    return InducedTaxonomy(
        synsets=tuple(synsets),
        classes=_read_only(np.array(classes, dtype=np.int32)),
        hypernym_edges=_read_only(np.array(edges, dtype=np.int32).reshape(-1, 2)),
        height=_read_only(height),
        depth=_read_only(depth),
        closure=closure,
        leaf_counts=_read_only(np.bincount(indices, minlength=n_nodes).astype(np.int32)),
        root=roots[0],
    )


def _parents(n_nodes: int, edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    parents: list[list[int]] = [[] for _ in range(n_nodes)]
    for child, parent in edges:
        if min(child, parent) < 0:
            raise ValueError("a node's number cannot be negative")
        parents[child].append(parent)
    return parents


def _ancestors_first(parents: list[list[int]]) -> list[int]:
    """The nodes in an order in which each follows all its ancestors."""
    return list(graphlib.TopologicalSorter(dict(enumerate(parents))).static_order())


def _upward_distances(parents: list[list[int]]) -> list[dict[int, int]]:
    """For every node: its ancestors, including itself, with the number of edges on the shortest path to each."""
    distances: list[dict[int, int]] = [{} for _ in parents]
    for node in _ancestors_first(parents):
        above = distances[node]
        above[node] = 0
        for parent in parents[node]:
            for ancestor, distance in distances[parent].items():
                above[ancestor] = min(distance + 1, above.get(ancestor, distance + 1))
    return distances


def _membership(class_sets: sparse.csr_array) -> sparse.csr_array[np.int32]:
    """The matrix with 1 for every non-zero entry; stored zeros are dropped, duplicate entries summed."""
    sets = sparse.csr_array(class_sets, copy=True)
    sets.sum_duplicates()
    sets.eliminate_zeros()
    return sparse.csr_array((np.ones(sets.nnz, dtype=np.int32), sets.indices, sets.indptr), shape=sets.shape)


def _read_only(array: NDArray[np.int32]) -> NDArray[np.int32]:
    array.flags.writeable = False
    return array
