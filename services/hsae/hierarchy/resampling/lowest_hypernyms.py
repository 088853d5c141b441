"""Lowest common hypernyms of many sets of classes, fast enough for a hundred permutations of the tree.

The hypernyms of a class are a row of bits, ordered so that the lowest comes first. The common hypernyms of a set are
the AND of its rows, and the first bit that is left is the lowest (`InducedTaxonomy.lch` has the order).
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int, Int64, UInt64

from hsae.taxonomy import InducedTaxonomy

_WORD_BITS = 64
N_RANDOM_SETS = 10_000
"""Random sets of classes from which the expectation of LCH excess is estimated."""


class LowestHypernyms:
    """The lowest common hypernym of sets of classes; the same nodes as `InducedTaxonomy.lch_many`."""

    def __init__(self, taxonomy: InducedTaxonomy) -> None:
        """Pack the closure into bits."""
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

    def expected_log2(
        self, leaf_counts: Int[np.ndarray, "n_nodes"], n_most: int, seed: int
    ) -> Float64[np.ndarray, " n_most+1"]:
        """Mean `log2 |L_v|` at the LCH `v` of K random classes, for K = 0..n_most; NaN for K = 0 and K > |L|.

        Over 10,000 random orders of the classes, of which the first K are the set (ours).

        Args:
            leaf_counts: classes under every node.
            n_most: the greatest K.
            seed: seed of NumPy's `Generator(PCG64(seed))`.
        """
        n_classes = len(self._of_class)
        expected = np.full(n_most + 1, np.nan)
        n_drawn = min(n_most, n_classes)
        rng = np.random.Generator(np.random.PCG64(seed))
        drawn = np.empty((n_drawn, N_RANDOM_SETS), np.int64)
        for column in range(N_RANDOM_SETS):
            drawn[:, column] = rng.permutation(n_classes)[:n_drawn]
        log2 = np.log2(leaf_counts)
        common = np.full((N_RANDOM_SETS, self._bits.shape[1]), np.iinfo(np.uint64).max, np.uint64)
        for k, classes in enumerate(drawn, start=1):
            common &= self._bits[classes]
            nodes = self._of_class[classes] if k == 1 else self._first(common)
            expected[k] = log2[nodes].mean()
        return expected

    def _first(self, common: UInt64[np.ndarray, "n_sets n_words"]) -> Int64[np.ndarray, "n_sets"]:
        """The node of the first bit of every row; every row has one, since the root is above all classes."""
        word = (common != 0).argmax(axis=1)
        bits = common[np.arange(len(common)), word]
        lowest = bits & (~bits + np.uint64(1))
        # A power of two is exact in float64, so its exponent is the number of the bit.
        bit = np.frexp(lowest.astype(np.float64))[1] - 1
        return np.asarray(self._nodes[word * _WORD_BITS + bit])
