"""What the headline numbers of one basis are computed from."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32, Int64

from hsae.hierarchy.coherence.resnik import ResnikSimilarity
from hsae.hierarchy.scores.shortlist import node_priority
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.distinct_nodes import MIN_INNER_CLASSES
from hsae.hierarchy.statistics.label_sets import Labels, classes_of
from hsae.taxonomy import InducedTaxonomy

MIN_LCH_FIRES = 16
"""LCH excess is over latents that fire on at least this many images."""


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One basis: its counts, and the choices that stay fixed when classes are deleted.

    Attributes:
        taxonomy: the induced taxonomy.
        resnik: similarity of every two classes.
        labels: of the score images, from `checked_labels`.
        select: class sums of the images on which latents are chosen, with their label sets.
        score: class sums of the score images, with their label sets; the same object where all is in-sample.
        node_best_latent: latent chosen for every node, -1 without one.
        top_images: the strongest score images of every latent, padded with -1.
        associated: the classes `K_j` of every latent.
        seed: seed of the random sets of classes that LCH excess is compared with.
    """

    taxonomy: InducedTaxonomy
    resnik: ResnikSimilarity
    labels: Labels
    select: ClassSums
    score: ClassSums
    node_best_latent: Int32[np.ndarray, "n_nodes"]
    top_images: Int32[np.ndarray, "n_latents n_top"]
    associated: "sp.csr_array[np.bool_]"
    seed: int = 0

    @property
    def n_classes(self) -> int:
        """Classes of the taxonomy, including those without images."""
        return len(self.taxonomy.classes)

    def has_images(self) -> Bool[np.ndarray, "n_classes"]:
        """Whether a class has score images."""
        counts = np.zeros(self.n_classes, np.bool_)
        counts[classes_of(self.labels, np.arange(self.labels.shape[0]))[1]] = True
        return counts


def members_of(sums: ClassSums, n_classes: int) -> "sp.csr_array[np.bool_]":
    """The classes of every row of the class sums, bool[n_items, n_classes]: of label sets, or of the classes."""
    if sums.set_indptr is None or sums.set_classes is None:
        return sp.csr_array(sp.eye_array(n_classes, dtype=np.bool_, format="csr"))
    shape = (sums.n_classes, n_classes)
    return sp.csr_array((np.ones(len(sums.set_classes), np.bool_), sums.set_classes, sums.set_indptr), shape=shape)


def fire_counts(sums: ClassSums) -> "sp.csr_array[np.float64]":
    """Images on which each latent fires, by class or label set: float64[n_latents, n_items], exact integers."""
    shape = (sums.n_latents, sums.n_classes)
    return sp.csr_array((sums.n_fire.astype(np.float64), sums.classes, sums.indptr), shape=shape)


def distinct_nodes(sums: ClassSums, taxonomy: InducedTaxonomy) -> Int64[np.ndarray, " n_distinct"]:
    """One node per distinct set of images, without those of every image or of none; ascending.

    Of nodes with the same images the deepest stands for all; ties: the smallest id.

    Args:
        sums: class sums of the score images.
        taxonomy: the induced taxonomy.
    """
    has_images = sums.class_sizes > 0
    under = sp.csc_array(sums.closure(taxonomy)[has_images])
    under.sort_indices()
    n_images = under.T.astype(np.float64) @ sums.class_sizes[has_images]
    seen: set[bytes] = set()
    kept = []
    for node in node_priority(taxonomy):
        if 0 < n_images[node] < sums.n_images:
            items = under.indices[under.indptr[node] : under.indptr[node + 1]].tobytes()
            if items not in seen:
                seen.add(items)
                kept.append(int(node))
    return np.sort(np.array(kept, np.int64))


def is_inner(nodes: Int64[np.ndarray, "n"], taxonomy: InducedTaxonomy) -> Bool[np.ndarray, "n"]:
    """Whether three or more classes are under the node."""
    return np.asarray(np.asarray(taxonomy.leaf_counts)[nodes] >= MIN_INNER_CLASSES)


def mean_defined(values: Float64[np.ndarray, "*rows n"]) -> Float64[np.ndarray, "*rows"]:
    """Mean over the last axis of what is not NaN; NaN without any."""
    is_there = ~np.isnan(values)
    n = is_there.sum(axis=-1)
    total = np.where(is_there, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))
