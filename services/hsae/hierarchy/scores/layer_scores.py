"""Scores of a layer: one row per layer and basis."""

from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from hsae.hierarchy.coherence.scores import LayerCoherence
from hsae.hierarchy.scores.adjusted_f1 import node_adjusted_f1
from hsae.hierarchy.scores.latent_scores import LatentPlaces
from hsae.hierarchy.scores.node_tests import NodeTests
from hsae.hierarchy.scores.shortlist import HIGH_F1, Shortlist
from hsae.hierarchy.statistics.distinct_nodes import DistinctNodes
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.hierarchy.statistics.rarefaction import rarefied
from hsae.taxonomy import InducedTaxonomy

LOW_Q = 0.01
"""A node counts as found by the test if its q-value is below this."""


class HeightCounts(NamedTuple):
    """Numbers of nodes of one height: all, those found by F1, those found by the test (q)."""

    n_nodes: int
    n_f1: int
    n_q: int


@dataclass(frozen=True, slots=True)
class LayerScores(LayerCoherence):
    """The row of one layer and basis; NaN for a mean over nothing. The first fields are `LayerCoherence`'s.

    Node shares and means are over the nodes that have some images but not all, one for each set of images (`n_nodes` of
    them). A node with every image, such as the root, has no test, and any latent that fires on a third of all images
    has F1 >= 0.5 with it. The choice of numbers is ours; LCH height and coverage are those of arXiv 2505.15970. Their
    means depend on how many classes the latents have, which `lch_excess_mean` does not. The table `layer_score` calls
    four columns differently: `l0` (l0_mean), `share_nodes_f1` (f1_node_share), `share_nodes_rarefied`
    (rarefied_node_share), `share_nodes_q` (q_node_share). It does not store n_images, n_associated_latents and
    n_inner_nodes.

    Attributes:
        n_images: number of images.
        n_latents: number of latents, including dead ones.
        n_dead: number of latents that fire on no image.
        dead_share: `n_dead / n_latents`.
        l0_mean: mean number of latents that fire on an image, `sum_j N_j / N`.
        n_associated_latents: number of latents with associated classes; LCH and coverage are over these.
        lch_height_mean: mean LCH height.
        lch_height_q25: its lower quartile.
        lch_height_median: its median.
        lch_height_q75: its upper quartile.
        lch_height_relative_mean: mean LCH height over the root's height.
        coverage_mean: mean ontological coverage, `|K_j ∩ L_v| / |L_v|` at `v = LCH(j)`.
        coverage_median: its median.
        n_nodes: number of nodes with some images but not all, one for each set of images.
        f1_node_share: share of these nodes whose best latent has F1 >= 0.5.
        rarefied_node_share: expected share of these nodes that some of `n_rarefied` latents, drawn at random, reach
            with an adjusted F1 >= 0.5 (`rarefied`, `NodeTests.n_reaching`).
        n_rarefied: number of latents that are drawn.
        q_node_share: share of these nodes with q < 0.01 (`NodeTests.q`).
        by_height: numbers of nodes of every height, of those with F1 >= 0.5 and of those with q < 0.01.
        best_f1_mean: mean over these nodes of the F1 of the best latent (0 if none fires on the node).
        n_inner_nodes: number of these nodes with at least 3 classes.
        best_f1_inner_mean: mean best F1 over these.
        best_f1_adjusted_mean: mean over all these nodes of the adjusted best F1, 0 where it is less.
        best_f1_adjusted_single_mean: the same over the nodes of one class.
        best_f1_adjusted_pair_mean: the same over the nodes of two classes.
        best_f1_adjusted_inner_mean: the same over the nodes of at least 3 classes.
    """

    n_images: int
    n_latents: int
    n_dead: int
    dead_share: float
    l0_mean: float
    n_associated_latents: int
    lch_height_mean: float
    lch_height_q25: float
    lch_height_median: float
    lch_height_q75: float
    lch_height_relative_mean: float
    coverage_mean: float
    coverage_median: float
    n_nodes: int
    f1_node_share: float
    rarefied_node_share: float
    n_rarefied: int
    q_node_share: float
    by_height: dict[int, HeightCounts]
    best_f1_mean: float
    n_inner_nodes: int
    best_f1_inner_mean: float
    best_f1_adjusted_mean: float
    best_f1_adjusted_single_mean: float
    best_f1_adjusted_pair_mean: float
    best_f1_adjusted_inner_mean: float

    def rarefied_to(self, n_columns: int, n_reaching: Int64[np.ndarray, "n_distinct"]) -> "LayerScores":
        """The same row with the rarefied share of fewer columns: the least number among the bases that are compared.

        Args:
            n_columns: number of columns that are drawn.
            n_reaching: of every node that counts, the latents that reach it.
        """
        share = _mean(rarefied(n_reaching, self.n_latents, n_columns))
        return replace(self, rarefied_node_share=share, n_rarefied=n_columns)


def layer_scores(
    ranked: RankedActivations,
    places: LatentPlaces,
    chosen: Shortlist,
    nodes: DistinctNodes,
    tests: NodeTests,
    taxonomy: InducedTaxonomy,
    coherence: LayerCoherence,
) -> LayerScores:
    """Compute the row of one basis of one layer.

    Args:
        ranked: activations of every latent.
        places: from `latent_places`.
        chosen: from `shortlist`.
        nodes: the nodes by their images.
        tests: from `node_tests`.
        taxonomy: the induced taxonomy.
        coherence: from `coherence_scores`.
    """
    n_dead = int((ranked.n_fire == 0).sum())
    placed = places.lch >= 0
    height, coverage = places.height[placed], places.coverage[placed]
    quartiles = np.percentile(height, (25, 50, 75)) if len(height) else np.full(3, np.nan)
    counts = nodes.counts
    single, pair, inner = nodes.strata()
    has_f1 = counts & (chosen.node_best_f1 >= HIGH_F1)
    has_q = counts & (tests.q < LOW_Q)
    adjusted = node_adjusted_f1(chosen.node_best_f1, nodes.n_node, nodes.n_images)
    n_nodes = int(counts.sum())
    return LayerScores(
        **asdict(coherence),
        n_images=ranked.n_images,
        n_latents=ranked.n_latents,
        n_dead=n_dead,
        dead_share=n_dead / ranked.n_latents,
        l0_mean=float(ranked.n_fire.sum()) / ranked.n_images,
        n_associated_latents=int(placed.sum()),
        lch_height_mean=_mean(height),
        lch_height_q25=float(quartiles[0]),
        lch_height_median=float(quartiles[1]),
        lch_height_q75=float(quartiles[2]),
        lch_height_relative_mean=_mean(places.height_relative[placed]),
        coverage_mean=_mean(coverage),
        coverage_median=float(np.median(coverage)) if len(coverage) else float("nan"),
        n_nodes=n_nodes,
        f1_node_share=int(has_f1.sum()) / n_nodes if n_nodes else float("nan"),
        rarefied_node_share=_mean(rarefied(tests.n_reaching[counts], ranked.n_latents, ranked.n_latents)),
        n_rarefied=ranked.n_latents,
        q_node_share=int(has_q.sum()) / n_nodes if n_nodes else float("nan"),
        by_height={
            int(level): HeightCounts(
                *(int((mask & (taxonomy.height == level)).sum()) for mask in (counts, has_f1, has_q))
            )
            for level in np.unique(taxonomy.height[counts])
        },
        best_f1_mean=_mean(chosen.node_best_f1[counts]),
        n_inner_nodes=int(inner.sum()),
        best_f1_inner_mean=_mean(chosen.node_best_f1[inner]),
        best_f1_adjusted_mean=_mean(adjusted[counts]),
        best_f1_adjusted_single_mean=_mean(adjusted[single]),
        best_f1_adjusted_pair_mean=_mean(adjusted[pair]),
        best_f1_adjusted_inner_mean=_mean(adjusted[inner]),
    )


def _mean(values: Float64[np.ndarray, "n"]) -> float:
    return float(values.mean()) if len(values) else float("nan")
