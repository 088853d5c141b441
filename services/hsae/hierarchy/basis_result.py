"""What one basis of an analysis gives: tables of pairs and latents, the latents' hierarchy, the row of the layer."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int32

from hsae.hierarchy.config import AssociationRule, ControlBasis
from hsae.hierarchy.latent_hierarchy.edges import LatentEdges
from hsae.hierarchy.latent_hierarchy.families import LatentFamilies
from hsae.hierarchy.scores.latent_scores import LatentPlaces, LatentTable
from hsae.hierarchy.scores.layer_scores import LayerScores
from hsae.hierarchy.statistics.class_sums import ClassSums

Basis = Literal["sae", ControlBasis, "shuffled_labels", "shuffled_taxonomy"]


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """One row per shortlisted pair, sorted by latent, then node; NaN stands for what is undefined.

    Attributes:
        latent: index of the latent.
        node: index into `InducedTaxonomy.synsets`.
        n_images: images under the node.
        n_fire: images on which the latent fires.
        n_both: images under the node on which it fires.
        precision: `n_both / n_fire`.
        recall: `n_both / n_images`.
        f1: their harmonic mean.
        auroc: area under the ROC curve of the activation.
        auroc_dense: the same of the column before thinning; only in the control bases.
        z: Mann-Whitney z-score, ties corrected.
        p: two-sided p-value.
        q: Benjamini-Hochberg q-value over all pairs of the basis.
        average_precision: of the activation as a ranking of the images.
        best_f1: greatest F1 that a threshold above 0 gives.
        best_threshold: the activation from which on the latent then fires.
        mass_share: share of the latent's activation mass under the node.
        mean_inside: mean activation under the node.
        mean_outside: mean activation elsewhere.
    """

    latent: Int32[np.ndarray, "n_pairs"]
    node: Int32[np.ndarray, "n_pairs"]
    n_images: Int32[np.ndarray, "n_pairs"]
    n_fire: Int32[np.ndarray, "n_pairs"]
    n_both: Int32[np.ndarray, "n_pairs"]
    precision: Float64[np.ndarray, "n_pairs"]
    recall: Float64[np.ndarray, "n_pairs"]
    f1: Float64[np.ndarray, "n_pairs"]
    auroc: Float64[np.ndarray, "n_pairs"]
    auroc_dense: Float64[np.ndarray, "n_pairs"]
    z: Float64[np.ndarray, "n_pairs"]
    p: Float64[np.ndarray, "n_pairs"]
    q: Float64[np.ndarray, "n_pairs"]
    average_precision: Float64[np.ndarray, "n_pairs"]
    best_f1: Float64[np.ndarray, "n_pairs"]
    best_threshold: Float64[np.ndarray, "n_pairs"]
    mass_share: Float64[np.ndarray, "n_pairs"]
    mean_inside: Float64[np.ndarray, "n_pairs"]
    mean_outside: Float64[np.ndarray, "n_pairs"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class BasisResult:
    """Everything that one basis of one layer gave.

    Attributes:
        basis: what was scored.
        seed: seed of the shuffle; 0 where nothing is shuffled.
        nodes: the shortlisted pairs; of a shuffled basis only the best latent of each node by F1.
        latents: one row per latent; None for a shuffled basis.
        places: the latents' places in the taxonomy by every association rule; of a shuffled basis by the one asked for.
        edges: its latents' own hierarchy: parents and children; of a shuffled basis those that the tree names alone.
        families: the parents of `edges`.
        layer: the row of the layer.
        class_sums: what `iter_node_scores` makes every pair's scores from, with `class_sums.closure`; only of the basis
            `sae`. Where images have several labels, by label set.
    """

    basis: Basis
    seed: int
    nodes: NodeTable
    latents: LatentTable | None
    places: dict[AssociationRule, LatentPlaces]
    edges: LatentEdges
    families: LatentFamilies
    layer: LayerScores
    class_sums: ClassSums | None
