"""F1 of the best latent of every node, with the classes permuted over the tree.

The best latent of a node is chosen anew under every permutation, on the select images. That takes the F1 of every
latent at every permuted node at which it fires: a sparse product of firing counts with the permuted closure.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int64

from hsae.hierarchy.kernels.blocks import go_on, latent_blocks
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.resampling.measured import Measured, fire_counts, mean_defined, members_of
from hsae.hierarchy.resampling.resampled import TreeNumber
from hsae.hierarchy.scores.adjusted_f1 import node_adjusted_f1
from hsae.hierarchy.scores.best_of_nodes import BestOfNodes
from hsae.hierarchy.scores.shortlist import HIGH_F1
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.taxonomy import InducedTaxonomy

_BLOCK_ENTRIES = 1 << 15
"""Firing counts per product: its result has some ten times as many entries, which fit the cache."""

ClassOrder = Int64[np.ndarray, "n_classes"]


def shuffled_f1(
    measured: Measured, permutations: list[ClassOrder], *, check: Callable[[], None] = go_on
) -> dict[TreeNumber, Float64[np.ndarray, " n_permutations"]]:
    """What layers say of the F1 of their nodes' best latents, under every permutation.

    Args:
        measured: the basis.
        permutations: for every class its place in the tree.
        check: called for every permutation; may raise to stop.

    Returns:
        Mean adjusted F1 over inner nodes, nodes of two and of one class and all distinct nodes; mean raw F1 over inner
        and over all nodes; and the share of all with a raw F1 of 0.5 or more.
    """
    taxonomy = measured.taxonomy
    nodes = np.flatnonzero(measured.nodes.counts)
    leaf_counts = np.asarray(taxonomy.leaf_counts)[nodes]
    several, single = nodes[leaf_counts > 1], nodes[leaf_counts == 1]
    columns = taxonomy.closure[:, several]
    f1 = np.empty((len(permutations), len(nodes)))
    adjusted = np.empty_like(f1)

    def several_classes(run: slice) -> list[_F1]:
        closures = (
            [_under(sums, taxonomy, columns, class_order) for sums in parts] for class_order in permutations[run]
        )
        return [_best_f1(*parts, *closure) for closure in closures]

    parts = (measured.select, measured.score)
    runs = (slice(row, row + 1) for row in range(len(permutations)))
    for row, found in enumerate(map_blocks(several_classes, runs, "cpu")):
        check()
        f1[row, leaf_counts > 1], adjusted[row, leaf_counts > 1] = found[0]
    # A node of one class has, wherever that class is, the images of one class: its F1 is that of the class.
    of_class = _best_f1(*parts, *(sp.csr_array(members_of(sums, measured.n_classes)) for sums in parts))
    class_at = sp.csc_array(taxonomy.closure[:, single]).indices
    for row, class_order in enumerate(permutations):
        at = np.argsort(class_order)[class_at]
        f1[row, leaf_counts == 1], adjusted[row, leaf_counts == 1] = of_class.raw[at], of_class.adjusted[at]
    one, two, inner = (stratum[nodes] for stratum in measured.nodes.strata())
    has_f1 = np.where(np.isnan(f1), np.nan, f1 >= HIGH_F1)
    return {
        "f1_adjusted_inner_mean": mean_defined(adjusted[:, inner]),
        "f1_adjusted_mean": mean_defined(adjusted),
        "best_f1_adjusted_pair_mean": mean_defined(adjusted[:, two]),
        "best_f1_adjusted_single_mean": mean_defined(adjusted[:, one]),
        "best_f1_inner_mean": mean_defined(f1[:, inner]),
        "best_f1_mean": mean_defined(f1),
        "share_nodes_f1": mean_defined(has_f1),
    }


class _F1(NamedTuple):
    """F1 of the best latents of some nodes, and the same adjusted for chance; NaN where undefined."""

    raw: Float64[np.ndarray, "n_nodes"]
    adjusted: Float64[np.ndarray, "n_nodes"]


def _under(
    sums: ClassSums, taxonomy: InducedTaxonomy, columns: "sp.csr_array[np.uint8]", class_order: ClassOrder
) -> "sp.csr_array[np.uint8]":
    """The closure after the permutation, of the classes or label sets and some nodes: [n_items, n_nodes]."""
    moved = sp.csr_array(columns[class_order])
    if sums.set_indptr is None:
        return moved
    n_under = members_of(sums, len(class_order)).astype(np.int32) @ moved.astype(np.int32)
    return sp.csr_array((np.ones(n_under.nnz, np.uint8), n_under.indices, n_under.indptr), shape=n_under.shape)


def _best_f1(select: ClassSums, score: ClassSums, under_select: "sp.csr_array", under_score: "sp.csr_array") -> _F1:
    """F1, on the score images, of each node's best latent on the select images.

    Args:
        select: class sums of the images on which latents are chosen.
        score: those of the score images.
        under_select: closure of the classes or label sets of the former, [n_items, n_nodes].
        under_score: of the latter.
    """
    counts, n_fire = fire_counts(select), select.latent_fire_counts()
    closure = sp.csr_array(under_select.astype(np.float64))
    n_node = closure.T @ select.class_sizes.astype(np.float64)
    best = BestOfNodes(len(n_node))
    for run in latent_blocks(select.indptr, max_nonzeros=_BLOCK_ENTRIES):
        common = sp.csr_array(counts[run] @ closure)
        latent, node = np.repeat(np.arange(run.start, run.stop), np.diff(common.indptr)), common.indices
        best.add(latent, node, 2.0 * common.data / np.maximum(n_fire[latent] + n_node[node], 1.0))
    latents = np.maximum(best.latent, 0)
    under = sp.csr_array(under_score.T.astype(np.float64))
    n_both = np.asarray(fire_counts(score)[latents].multiply(under).sum(axis=1)).ravel()
    n_node = under @ score.class_sizes.astype(np.float64)
    n_fire = score.latent_fire_counts()[latents]
    f1 = np.where(best.latent >= 0, 2.0 * n_both / np.maximum(n_fire + n_node, 1.0), 0.0)
    adjusted = node_adjusted_f1(f1, n_node, score.n_images)
    return _F1(np.where(np.isnan(adjusted), np.nan, f1), adjusted)
