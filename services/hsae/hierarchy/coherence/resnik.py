"""Resnik similarity of classes: the information content of what they have in common."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt16

from hsae.errors import UserError
from hsae.taxonomy import InducedTaxonomy

MAX_CLASSES = 30_000
"""More classes would need more than 1.8 GB for their similarities."""

_BLOCK_CELLS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class ResnikSimilarity:
    """The similarity `s_ab` of every pair of classes, as numbers of its distinct values: 2 bytes a pair.

    Attributes:
        code: index of `s_ab` in `bits`; 0 on the diagonal, where no similarity is defined.
        bits: the distinct values, ascending; the first is 0.
    """

    code: UInt16[np.ndarray, "n_classes n_classes"]
    bits: Float64[np.ndarray, "n"]

    @property
    def n_classes(self) -> int:
        """Number of classes, including those without images."""
        return len(self.code)

    def of(self, left: Int[np.ndarray, "..."], right: Int[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
        """The similarities of pairs of classes, by position; 0 for a class and itself. The arrays are broadcast."""
        return np.asarray(self.bits[self.code[left, right]])

    def row_sums(self, keep: Bool[np.ndarray, "n_classes"], *, power: int = 1) -> Float64[np.ndarray, "n_present"]:
        """For every kept class, the sum of the similarities to the other kept ones, or of a power of them.

        Args:
            keep: which classes.
            power: 2 for the sums of squares.
        """
        kept = np.flatnonzero(keep)
        values = self.bits**power
        height = max(1, _BLOCK_CELLS // max(1, len(kept)))
        sums = np.zeros(len(kept))
        for first in range(0, len(kept), height):
            rows = slice(first, first + height)
            # The similarities are symmetric: rows are added, which is faster than to add along them.
            sums[rows] = values.take(self.code.take(kept, axis=0).take(kept[rows], axis=1)).sum(axis=0)
        return sums


def resnik_similarity(taxonomy: InducedTaxonomy) -> ResnikSimilarity:
    """The Resnik similarity of every pair of classes.

    `IC(v) = -log2(|L_v| / |L|)` bits, with `L_v` the classes at or under node `v` and `L` all classes; `s_ab` is the
    greatest IC over the nodes above both classes, through any parent (Resnik 1995; by numbers of classes: ours). Memory
    holds 2 bytes for every ordered pair: 2 MB for 1,000 classes, 0.9 GB for 21,000.

    Raises:
        UserError: there are more than `MAX_CLASSES` classes.
    """
    n_classes = len(taxonomy.classes)
    if n_classes > MAX_CLASSES:
        raise UserError(
            f"the similarities of {n_classes} classes do not fit memory: at most {MAX_CLASSES} can be compared"
        )
    counts = taxonomy.leaf_counts.astype(np.int64)
    sizes = np.unique(np.append(counts[counts > 1], n_classes))[::-1]  # all classes first: they share 0 bits
    under = taxonomy.closure.tocsc()
    under.sort_indices()
    code = np.zeros((n_classes, n_classes), np.uint16)
    for number, size in enumerate(sizes[1:], start=1):  # later nodes have fewer classes, and so more information
        of_size = {
            under.indices[under.indptr[node] : under.indptr[node + 1]].tobytes()
            for node in np.flatnonzero(counts == size)
        }  # nodes of one class set, such as a chain of single children, are one
        for members in of_size:
            classes = np.frombuffer(members, under.indices.dtype)
            code[np.ix_(classes, classes)] = number
    np.fill_diagonal(code, 0)
    return ResnikSimilarity(code, np.log2(n_classes / sizes))
