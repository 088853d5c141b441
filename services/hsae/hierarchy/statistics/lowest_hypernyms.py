"""Lowest common hypernyms of very many sets of classes: latents, random draws, a hundred permutations of the tree.

The hypernyms of a class are a row of bits, ordered so that the lowest comes first. The common hypernyms of a set are
the AND of its rows, and the first bit that is left is the lowest (`InducedTaxonomy.lch` has the order).
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int, Int64, UInt64

from hsae.taxonomy import InducedTaxonomy

_WORD_BITS = 64


class LowestHypernyms:
    """The lowest common hypernym of sets of classes; the same nodes as `InducedTaxonomy.lch_many`.

    Attributes:
        log_classes: `log2 |L_v|` of every node, `L_v` the classes at or under node `v`.
    """

    def __init__(self, taxonomy: InducedTaxonomy) -> None:
        """Pack the closure into bits."""
        self.log_classes: Float64[np.ndarray, "n_nodes"] = np.log2(taxonomy.leaf_counts)
        n_nodes, n_classes = len(taxonomy.synsets), len(taxonomy.classes)
        order = np.lexsort((np.arange(n_nodes), taxonomy.leaf_counts, taxonomy.height))
        under = sp.csc_array(taxonomy.closure)
        under.sort_indices()
        # Of nodes with the same classes only the first is ever the lowest; a node of one class is so for that class
        # alone.
        seen: set[bytes] = set()
        nodes = []
        self._of_class = np.full(n_classes, -1, np.int64)
        for node in order:
            classes = under.indices[under.indptr[node] : under.indptr[node + 1]]
            first = self._of_class[classes] < 0
            self._of_class[classes[first]] = node
            if len(classes) > 1 and classes.tobytes() not in seen:
                seen.add(classes.tobytes())
                nodes.append(int(node))
        self._nodes = np.array(nodes, np.int64)
        n_words = max(1, -(-len(nodes) // _WORD_BITS))
        is_above = np.zeros((n_classes, n_words * _WORD_BITS), np.bool_)
        if nodes:
            is_above[:, : len(nodes)] = under[:, self._nodes].toarray() > 0
        packed = np.packbits(is_above, axis=1, bitorder="little")
        self._bits = np.ascontiguousarray(packed).view("<u8").astype(np.uint64)

    def of_sets(
        self, indptr: Int[np.ndarray, "n_sets+1"], classes: Int[np.ndarray, "n_members"]
    ) -> Int64[np.ndarray, "n_sets"]:
        """The node of every set; -1 for an empty one.

        Args:
            indptr: bounds of the sets in `classes`.
            classes: the classes of every set, without repetition, in any order.
        """
        size = np.diff(indptr)
        found = np.full(len(size), -1, np.int64)
        single = np.flatnonzero(size == 1)
        found[single] = self._of_class[classes[indptr[single]]]
        several = np.flatnonzero(size > 1)
        several = several[np.argsort(-size[several], kind="stable")]  # so that those that go on are a prefix
        start, size = indptr[several], size[several]
        common = self._bits[classes[start]] if len(several) else np.empty((0, self._bits.shape[1]), np.uint64)
        for member in range(1, int(size.max(initial=0))):
            n_on = int(np.searchsorted(-size, -member, side="left"))
            common[:n_on] &= self._bits[classes[start[:n_on] + member]]
        found[several] = self._first(common)
        return found

    def of_prefixes(self, classes: Int[np.ndarray, "n_sets n"]) -> Int64[np.ndarray, "n_sets n"]:
        """The node of the first class of every row, of its first two classes, and so on; classes of a row differ."""
        found = np.empty(classes.shape, np.int64)
        common = np.full((len(classes), self._bits.shape[1]), np.iinfo(np.uint64).max, np.uint64)
        for place, members in enumerate(np.asarray(classes).T):
            common &= self._bits[members]
            found[:, place] = self._first(common) if place else self._of_class[members]
        return found

    def _first(self, common: UInt64[np.ndarray, "n_sets n_words"]) -> Int64[np.ndarray, "n_sets"]:
        """The node of the first bit of every row; every row has one, since the root is above all classes."""
        word = (common != 0).argmax(axis=1)
        bits = common[np.arange(len(common)), word]
        lowest = bits & (~bits + np.uint64(1))
        # A power of two is exact in float64, so its exponent is the number of the bit.
        bit = np.frexp(lowest.astype(np.float64))[1] - 1
        return np.asarray(self._nodes[word * _WORD_BITS + bit])
