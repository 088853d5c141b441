"""Nodes that hold the same images, of which one counts: a chain of hypernyms of one class is one finding, not many."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Int64

from hsae.hierarchy.config import MIN_INNER_CLASSES
from hsae.hierarchy.statistics.label_sets import Labels, LabelSets
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class DistinctNodes:
    """The nodes of a taxonomy by the images that they hold. The choice of what counts is ours.

    Attributes:
        n_images: number of images.
        n_node: images under every node.
        n_classes: classes with images at or under every node.
        representative: for every node the deepest of those that hold the same images, the lower index on ties.
    """

    n_images: int
    n_node: Int64[np.ndarray, "n_nodes"]
    n_classes: Int64[np.ndarray, "n_nodes"]
    representative: Int64[np.ndarray, "n_nodes"]

    @property
    def counts(self) -> Bool[np.ndarray, "n_nodes"]:
        """The nodes that layer numbers are over: representatives that have some images, but not all."""
        is_representative: np.ndarray = self.representative == np.arange(len(self.representative))
        return is_representative & (self.n_node > 0) & (self.n_node < self.n_images)

    def strata(self) -> tuple[Bool[np.ndarray, "n_nodes"], Bool[np.ndarray, "n_nodes"], Bool[np.ndarray, "n_nodes"]]:
        """The nodes that count, of one class with images, of two, and of three or more."""
        n_classes = self.n_classes
        single, pair, inner = n_classes == 1, n_classes == 2, n_classes >= MIN_INNER_CLASSES
        return self.counts & single, self.counts & pair, self.counts & inner


def distinct_nodes(sets: LabelSets, labels: Labels, taxonomy: InducedTaxonomy) -> DistinctNodes:
    """Group the nodes by their images.

    Args:
        sets: the label sets of the images.
        labels: from `checked_labels`, of the same images.
        taxonomy: the induced taxonomy of the classes.
    """
    set_sizes = np.bincount(sets.of_image, minlength=sets.n_sets)
    held = sp.csc_array(sets.closure)[np.flatnonzero(set_sizes)]
    held.sort_indices()
    # All images of a label set lie under the same nodes, so nodes with the same sets hold the same images.
    by_images: dict[bytes, int] = {}
    representative = np.empty(len(taxonomy.synsets), np.int64)
    depth = np.asarray(taxonomy.depth, np.int64)
    for node in np.lexsort((np.arange(len(depth)), -depth)):
        rows = held.indices[held.indptr[node] : held.indptr[node + 1]]
        representative[node] = by_images.setdefault(rows.tobytes(), int(node))
    has_images = np.zeros(len(taxonomy.classes), np.int64)
    has_images[labels.indices if sp.issparse(labels) else labels] = 1
    return DistinctNodes(
        n_images=len(sets.of_image),
        n_node=np.asarray(set_sizes @ sets.closure.astype(np.int64)),
        n_classes=np.asarray(has_images @ taxonomy.closure.astype(np.int64)),
        representative=representative,
    )
