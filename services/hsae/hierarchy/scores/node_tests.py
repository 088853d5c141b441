"""Exact tests of nodes: is the best of all latents better at a node than the best of as many by chance?

Images are taken as independent; near-duplicates in a data set make every test too optimistic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64
from scipy.stats import false_discovery_control

from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.shortlist import HIGH_F1
from hsae.hierarchy.statistics.distinct_nodes import DistinctNodes
from hsae.hierarchy.statistics.hypergeometric import Hypergeometric

_MARGIN = 1e-6
"""More than the error of a logarithm from `log_factorials`, of up to 100 million images."""


@dataclass(frozen=True, slots=True, eq=False)
class NodeTests:
    """The test of every node of a basis, and the numbers of latents that reach a node.

    Attributes:
        n_alive: number of latents that fire, `M`.
        p: `1 - (1 - min_j p_jv)^M`, as if the latents were independent (Šidák's correction; latents that depend on one
            another make it greater than it need be); `p_jv` is `PairSums.p`, and 1 where the latent fires under the
            node at most as often as chance has it. NaN for a node without images or with all of them.
        q: Benjamini-Hochberg q-value over the nodes with distinct images; nodes that hold the same images share it.
        n_reaching: number of latents with an adjusted F1 of at least 0.5, on the images of the choice and on the scored
            ones.
        family: the p-values of all tests, ascending, and their q-values.
    """

    n_alive: int
    p: Float64[np.ndarray, "n_nodes"]
    q: Float64[np.ndarray, "n_nodes"]
    n_reaching: Int64[np.ndarray, "n_nodes"]
    family: Float64[np.ndarray, "2 n_tests"]

    def q_of(self, p: Float64[np.ndarray, "n_pairs"]) -> Float64[np.ndarray, "n_pairs"]:
        """The q-value of a node if a pair with this `p` were its best: corrected for all latents and all nodes."""
        corrected = _of_best(p, self.n_alive)
        family, q = self.family
        at = np.searchsorted(family, corrected)
        return np.where(np.isnan(corrected), np.nan, np.append(q, 1.0)[at])


def node_tests(
    scored: NodeSums, selecting: NodeSums, nodes: DistinctNodes, *, check: Callable[[], None] = go_on
) -> NodeTests:
    """Test every node in one pass over the firing counts.

    Args:
        scored: sums over the scored images.
        selecting: sums over the images on which latents are chosen, of the same latents and nodes; `scored` itself if
            these are the same.
        nodes: the nodes by their scored images.
        check: called for every block of latents; may raise to stop.
    """
    search = _Search(scored)
    log_p = np.zeros(scored.n_nodes)
    n_reaching = np.zeros(scored.n_nodes, np.int64)

    def work(latents: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        latent, node, n_both = scored.hits(latents)
        reaches = np.flatnonzero(scored.with_known_counts(latent, node, n_both).f1_adjusted().numpy() >= HIGH_F1)
        if selecting is not scored:
            also = selecting.pairs(latent[reaches], node[reaches]).f1_adjusted().cpu().numpy() >= HIGH_F1
            reaches = reaches[also]
        return *search.best_of(latent, node, n_both), np.bincount(node[reaches], minlength=scored.n_nodes)

    for node, value, n_more in map_blocks(work, scored.latent_runs(device="cpu"), "cpu"):
        check()
        np.minimum.at(log_p, node, value)
        n_reaching += n_more
    n_alive = int((scored.sums.latent_fire_counts() > 0).sum())
    p = np.where(scored.nodes_with_test, _of_best(np.exp(log_p), n_alive), np.nan)
    tested = np.flatnonzero(nodes.counts)
    q = np.full(scored.n_nodes, np.nan)
    q[tested] = false_discovery_control(p[tested])
    family = np.stack((np.sort(p[tested]), np.sort(q[tested])))  # a q-value never falls where p rises
    return NodeTests(n_alive, p, q[nodes.representative], n_reaching, family)


class _Search:
    """Finds the least p-value of every node in a block of latents.

    A tail is at least its first term, and at most a geometric series from it. Both are cheap; the exact tail is
    computed only for pairs whose first term is below the least of the bounds above at their node.
    """

    def __init__(self, scored: NodeSums) -> None:
        self._tails = Hypergeometric.of(scored.sums.n_images)
        self._n = scored.sums.n_images
        self._n_node = scored.n_node.astype(np.int64)
        self._n_fire = scored.sums.latent_fire_counts()
        self._log = self._tails.log_factorials()
        self._of_node = self._log[self._n_node] + self._log[self._n - self._n_node]
        self._of_latent = self._log[self._n_fire] + self._log[self._n - self._n_fire] - self._log[self._n]

    def best_of(
        self,
        latent: Int64[np.ndarray, "n_pairs"],
        node: Int32[np.ndarray, "n_pairs"],
        n_both: Float64[np.ndarray, "n_pairs"],
    ) -> tuple[Int32[np.ndarray, "n_chosen"], Float64[np.ndarray, "n_chosen"]]:
        """Nodes, and log p-values of pairs with them: those of every node include its least below 0.

        Args:
            latent: latent of every pair with an image in common; others are not above chance.
            node: its node.
            n_both: number of these images.
        """
        both, fire, under = n_both.astype(np.int64), self._n_fire[latent], self._n_node[node]
        above = np.flatnonzero(both * self._n > fire * under)
        latent, node, both, fire, under = (part[above] for part in (latent, node, both, fire, under))
        missed, others = under - both, fire - both
        neither = self._n - under - others
        term = self._of_node[node] + self._of_latent[latent]
        for count in (both, missed, others, neither):
            term -= self._log[count]
        ratio = missed.astype(np.float64) * others / ((both + 1.0) * (neither + 1.0))
        bound = term - np.log1p(-ratio)
        least = np.zeros(len(self._n_node))
        np.minimum.at(least, node, bound)
        kept = term <= least[node] + _MARGIN
        return node[kept], self._tails.log_tail(both[kept], fire[kept], under[kept])


def _of_best(p: Float64[np.ndarray, "n"], n_alive: int) -> Float64[np.ndarray, "n"]:
    """`1 - (1 - p)^M` without cancellation; 1 where p is, also without a latent."""
    with np.errstate(divide="ignore"):
        corrected = -np.expm1(max(n_alive, 1) * np.log1p(-p))
    return np.asarray(corrected)
