"""The results of one basis of an analysis: tables of pairs and latents, edges among latents, the row of the layer."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int32

from hsae.hierarchy.config import AssociationRule, ControlBasis
from hsae.hierarchy.latent_hierarchy.edges import LatentEdges
from hsae.hierarchy.latent_hierarchy.families import LatentFamilies
from hsae.hierarchy.scores.latent_scores import LatentPlaces, LatentTable
from hsae.hierarchy.scores.layer_scores import LayerScores
from hsae.hierarchy.statistics.class_sums import ClassSums

ShuffledBasis = Literal["shuffled_labels", "shuffled_taxonomy"]
Basis = Literal["sae", ControlBasis, ShuffledBasis]
SHUFFLED_BASES: tuple[ShuffledBasis, ...] = get_args(ShuffledBasis)
"""The SAE's latents against labels or a taxonomy that mean nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeTable:
    """One row per shortlisted pair, sorted by latent, then node; NaN where a score is undefined.

    Attributes:
        latent: index of the latent.
        node: index into `InducedTaxonomy.synsets`.
        is_node_best: whether the latent is the one that was chosen for the node: the best by F1 on the images on which
            latents are chosen.
        n_images: images under the node.
        n_fire: images on which the latent fires.
        n_both: images under the node on which it fires.
        precision: `n_both / n_fire`.
        recall: `n_both / n_images`.
        f1: harmonic mean of precision and recall.
        auroc: area under the ROC curve of the activation.
        auroc_dense: AUROC of the column before its threshold; of the best column of a node in a control basis.
        z: Mann-Whitney z-score with tie correction.
        p: two-sided p-value.
        q: Benjamini-Hochberg q-value over all pairs of the basis.
        average_precision: average precision of the images ranked by activation.
        best_f1: greatest F1 over all firing thresholds above 0.
        best_threshold: the threshold that gives `best_f1`; the latent fires where its activation is at least this.
        mass_share: share of the latent's activation mass under the node.
        mean_inside: mean activation under the node.
        mean_outside: mean activation elsewhere.
    """

    latent: Int32[np.ndarray, "n_pairs"]
    node: Int32[np.ndarray, "n_pairs"]
    is_node_best: Bool[np.ndarray, "n_pairs"]
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
    """All results of one basis of one layer.

    Attributes:
        basis: what was scored.
        seed: seed of the shuffle; of a control basis the number of the draw; 0 for the SAE.
        nodes: the shortlisted pairs; for a shuffled basis, and for further draws, only the best latent of each node by
            F1.
        latents: one row per latent; None for a shuffled basis and for further draws.
        places: LCH and coverage of the latents by every association rule; for a shuffled basis by the requested one.
        edges: parents and children among the latents; for a shuffled basis only those from the taxonomy.
        families: one row per parent in `edges`.
        layer: the row of the layer.
        class_sums: sums by class over all images, whatever they were used for, from which `iter_node_scores` computes
            the scores of every pair; only for the basis `sae`. If images have several labels, the sums are by label
            set.
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
