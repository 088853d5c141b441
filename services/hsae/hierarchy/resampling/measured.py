"""What the headline numbers of one basis are computed from."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32

from hsae.hierarchy.coherence.chance import Chance, Chances
from hsae.hierarchy.coherence.class_pairs import ClassPairs, top_class_pairs
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.distinct_nodes import DistinctNodes
from hsae.hierarchy.statistics.label_sets import Labels
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One basis: its counts, and the choices that stay fixed when classes are deleted.

    Attributes:
        taxonomy: the induced taxonomy.
        chances: what chance gives for any classes; shared by the bases of an analysis.
        labels: of the score images, from `checked_labels`.
        select: class sums of the images on which latents are chosen, with their label sets.
        score: class sums of the score images, with their label sets; the same object where all is in-sample.
        nodes: the nodes by their score images.
        node_best_latent: latent chosen for every node, -1 without one.
        top_images: the strongest score images of every latent, padded with -1.
        associated: the classes `K_j` of every latent, by the rule that was asked for.
        top_classes: those of its strongest images (rule `topk`), which LCH excess is of.
        seed: seed of the first permutation of the tree.
    """

    taxonomy: InducedTaxonomy
    chances: Chances
    labels: Labels
    select: ClassSums
    score: ClassSums
    nodes: DistinctNodes
    node_best_latent: Int32[np.ndarray, "n_nodes"]
    top_images: Int32[np.ndarray, "n_latents n_top"]
    associated: "sp.csr_array[np.bool_]"
    top_classes: "sp.csr_array[np.bool_]"
    seed: int = 0

    @property
    def n_classes(self) -> int:
        """Classes of the taxonomy, including those without images."""
        return len(self.taxonomy.classes)

    @property
    def chance(self) -> Chance | None:
        """What chance gives for the classes with score images; None where coherence and LCH excess are undefined."""
        return self.chances.of(self.labels)

    def has_images(self) -> Bool[np.ndarray, "n_classes"]:
        """Whether a class has score images; only these are permuted over the tree."""
        present = np.zeros(self.n_classes, np.bool_)
        present[self.labels.indices if sp.issparse(self.labels) else self.labels] = True
        return present

    def pairs(self, chance: Chance) -> ClassPairs:
        """The pairs of classes of every latent."""
        return top_class_pairs(self.top_images, self.labels, chance.resnik)


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


def mean_defined(values: Float64[np.ndarray, "*rows n"]) -> Float64[np.ndarray, "*rows"]:
    """Mean over the last axis of what is not NaN; NaN without any."""
    is_there = ~np.isnan(values)
    n = is_there.sum(axis=-1)
    total = np.where(is_there, values, 0.0).sum(axis=-1)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan))
