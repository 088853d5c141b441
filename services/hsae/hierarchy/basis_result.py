"""The results of one basis of an analysis: tables of pairs and latents, edges among latents, the row of the layer."""

from dataclasses import dataclass, fields

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32, Int64

from hsae.hierarchy.config import AssociationRule
from hsae.hierarchy.latent_hierarchy.absorption import NodeAbsorption
from hsae.hierarchy.latent_hierarchy.edges import LatentEdges
from hsae.hierarchy.latent_hierarchy.families import LatentFamilies
from hsae.hierarchy.resampling.resampled import Resampled
from hsae.hierarchy.scores.latent_scores import LatentPlaces, LatentTable
from hsae.hierarchy.scores.layer_scores import LayerScores
from hsae.hierarchy.scores.node_tests import NodeTests
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.scores.ranking_scores import RankingScores
from hsae.hierarchy.scores.shortlist import Shortlist
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.distinct_nodes import DistinctNodes
from hsae.vocabulary.bases import Basis


@dataclass(frozen=True, eq=False)
class NodeTable(NodeScores, RankingScores):
    """One row per shortlisted pair, sorted by latent, then node: all of its scores; NaN where a score is undefined.

    Attributes:
        latent: index of the latent.
        node: index into `InducedTaxonomy.synsets`.
        is_node_best: whether the latent is the one that was chosen for the node: the best by F1 on the images on which
            latents are chosen.
        is_distinct: whether the node stands for all nodes that hold the same images (`DistinctNodes`).
        auroc_dense: AUROC of the column before its threshold; of the best column of a node in a control basis.
        p_node: p-value of the node (`NodeTests`); only where `is_node_best`.
        q_node: q-value of the node; only where `is_node_best`.
    """

    latent: Int32[np.ndarray, "n_pairs"]
    node: Int32[np.ndarray, "n_pairs"]
    is_node_best: Bool[np.ndarray, "n_pairs"]
    is_distinct: Bool[np.ndarray, "n_pairs"]
    auroc_dense: Float64[np.ndarray, "n_pairs"]
    p_node: Float64[np.ndarray, "n_pairs"]
    q_node: Float64[np.ndarray, "n_pairs"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order; counts as int32."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values.astype(np.int32) if name.startswith("n_") else values for name, values in columns.items()}


def node_table(
    chosen: Shortlist,
    scores: tuple[NodeScores, RankingScores],
    auroc_dense: Float64[np.ndarray, "n_pairs"],
    nodes: DistinctNodes,
    tests: NodeTests,
) -> NodeTable:
    """Assemble the columns.

    Args:
        chosen: the shortlist.
        scores: of its pairs, in their order.
        auroc_dense: of its pairs.
        nodes: the nodes by their scored images.
        tests: of the nodes.
    """
    of_node = chosen.nodes
    is_best = chosen.node_best_latent[of_node] == chosen.latents
    return NodeTable(
        latent=chosen.latents,
        node=of_node,
        is_node_best=is_best,
        is_distinct=nodes.representative[of_node] == of_node,
        auroc_dense=auroc_dense,
        p_node=np.where(is_best, tests.p[of_node], np.nan),
        q_node=np.where(is_best, tests.q[of_node], np.nan),
        **{field.name: getattr(part, field.name) for part in scores for field in fields(part)},
    )


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
        absorption: one row per inner node with a best latent; None where it is not measured: of every basis but `sae`
            and `shuffled_taxonomy`, where images have several tokens, and without the SAE's decoder and pre-bias.
        layer: the row of the layer.
        n_reaching: of every node that counts in the layer's numbers, the latents that reach it (`NodeTests`).
        class_sums: sums by class over all images, whatever they were used for, from which `iter_node_scores` computes
            the scores of every pair; only for the basis `sae`. If images have several labels, the sums are by label
            set.
        resampled: the headline numbers with classes deleted and with shuffled taxonomies.
        pair_weights: what the p-value of the layer's coherence is computed from (`mean_weights`), until it is.
    """

    basis: Basis
    seed: int
    nodes: NodeTable
    latents: LatentTable | None
    places: dict[AssociationRule, LatentPlaces]
    edges: LatentEdges
    families: LatentFamilies
    absorption: NodeAbsorption | None
    layer: LayerScores
    n_reaching: Int64[np.ndarray, "n_distinct"]
    class_sums: ClassSums | None
    resampled: Resampled | None = None
    pair_weights: "sp.csr_array[np.float64] | None" = None
