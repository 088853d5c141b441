"""Candidate pairs of parent and child latents: from the taxonomy, and from the activations."""

from collections.abc import Callable
from typing import NamedTuple

import networkx as nx
import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int, Int32, Int64
from scipy.sparse.csgraph import connected_components

from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, implying_pairs
from hsae.taxonomy import InducedTaxonomy

IMPLICATION = 0.9
"""`p` is a parent of `c` by activation if `W(p|c)` is above this and `W(c|p)` below (arXiv 2606.22994)."""

MIN_F1 = 0.5
"""Least F1 with which the best latent of a node represents it (ours)."""

MIN_FIRE = 20
"""A latent that fires on fewer images is in no pair by activation, and no pair below it is confirmed (ours)."""

MAX_DENSITY = 0.5
"""A latent that fires on a greater share of the images is in no pair by activation: most others imply it (ours)."""


class LatentPairs(NamedTuple):
    """Child and parent of every pair, sorted by parent, then child, without duplicates.

    child_node, parent_node: the nodes whose best latents they are; -1 for pairs by activation.
    """

    child: Int32[np.ndarray, "n_pairs"]
    parent: Int32[np.ndarray, "n_pairs"]
    child_node: Int32[np.ndarray, "n_pairs"]
    parent_node: Int32[np.ndarray, "n_pairs"]


def taxonomy_pairs(
    taxonomy: InducedTaxonomy,
    node_best_latent: Int[np.ndarray, "n_nodes"],
    node_best_f1: Float[np.ndarray, "n_nodes"],
    *,
    min_f1: float = MIN_F1,
) -> LatentPairs:
    """The best latent of every node, paired with the best latent of each direct hyponym (arXiv 2606.22994).

    A pair counts if both nodes have a best latent with an F1 of at least `min_f1`, and the two latents differ. If
    several pairs of nodes give the same pair of latents, the pair with the deepest hyponym is recorded; ties: the lower
    hyponym index, then the lower hypernym index (ours). The activations play no part here. A latent that is the best of
    several nodes can be the parent of another latent for one pair of nodes and its child for another.

    Args:
        taxonomy: the induced taxonomy.
        node_best_latent: latent with the best F1 at every node, -1 where there is none.
        node_best_f1: its F1, NaN for a node without images.
        min_f1: least F1 with which a latent represents its node.
    """
    child_node, parent_node = np.asarray(taxonomy.hypernym_edges, np.int64).reshape(-1, 2).T
    is_there = (node_best_latent >= 0) & (node_best_f1 >= min_f1)
    differs = node_best_latent[child_node] != node_best_latent[parent_node]
    chosen = is_there[child_node] & is_there[parent_node] & differs
    child_node, parent_node = child_node[chosen], parent_node[chosen]
    child, parent = node_best_latent[child_node], node_best_latent[parent_node]
    order = np.lexsort((parent_node, child_node, -np.asarray(taxonomy.depth, np.int64)[child_node], child, parent))
    pairs = LatentPairs(*(part[order].astype(np.int32) for part in (child, parent, child_node, parent_node)))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (pairs.child[1:] != pairs.child[:-1]) | (pairs.parent[1:] != pairs.parent[:-1])
    return LatentPairs(*(part[is_first] for part in pairs))


def activation_pairs(
    firings: Firings,
    *,
    min_fire: int = MIN_FIRE,
    max_density: float = MAX_DENSITY,
    check: Callable[[], None] = go_on,
) -> LatentPairs:
    """Pairs with `W(p|c) > 0.9 and W(c|p) < 0.9`, transitively reduced (arXiv 2606.22994).

    `W` is the implication weighted by the activations of the child. Three latents can imply one another in a cycle:
    each may have most of its mass on images on which the next one fires weakly. `W` gives no order within a cycle.
    Between two latents of one strongly connected component, only pairs whose parent fires on more images than the child
    are kept (ours); that removes every cycle. Then a pair is dropped if a chain of other pairs leads from the child to
    the parent.

    Args:
        firings: activations of every latent.
        min_fire: latents that fire on fewer images are left out.
        max_density: latents that fire on a greater share of the images are left out.
        check: called for every block of latents; may raise to stop.
    """
    is_eligible = (firings.n_fire >= min_fire) & (firings.n_fire <= max_density * firings.n_images)
    child, parent, share = implying_pairs(firings, is_eligible, IMPLICATION, check=check)
    key = child * firings.n_latents + parent
    is_mutual = np.isin(parent * firings.n_latents + child, key, assume_unique=True)
    chosen = (share > IMPLICATION) & ~is_mutual
    child, parent = child[chosen], parent[chosen]
    open_chain = without_cycles(child, parent, firings.n_fire)
    child, parent = child[open_chain], parent[open_chain]
    needed = transitive_reduction(child, parent)
    child, parent = child[needed], parent[needed]
    order = np.lexsort((child, parent))
    no_node = np.full(len(order), -1, np.int32)
    return LatentPairs(child[order].astype(np.int32), parent[order].astype(np.int32), no_node, no_node)


def without_cycles(
    child: Int64[np.ndarray, "n_edges"], parent: Int64[np.ndarray, "n_edges"], n_fire: Int64[np.ndarray, "n_latents"]
) -> Bool[np.ndarray, "n_edges"]:
    """Edges to keep: all between strongly connected components; within one, those to a greater `n_fire`."""
    shape = (len(n_fire), len(n_fire))
    graph = sp.csr_array((np.ones(len(child), np.int8), (child, parent)), shape=shape)
    component: Int32[np.ndarray, "n_latents"]
    _, component = connected_components(graph, directed=True, connection="strong")
    stays: Bool[np.ndarray, "n_edges"] = (component[child] != component[parent]) | (n_fire[child] < n_fire[parent])
    return stays


def transitive_reduction(
    child: Int64[np.ndarray, "n_edges"], parent: Int64[np.ndarray, "n_edges"]
) -> Bool[np.ndarray, "n_edges"]:
    """The edges of an acyclic graph that no chain of other edges replaces; which these are is unique.

    The mean number of latents that fire with a child bounds the number of its parents, so that there are few edges.
    """
    edges = list(zip(child.tolist(), parent.tolist(), strict=True))
    needed = nx.transitive_reduction(nx.DiGraph(edges))
    return np.fromiter((needed.has_edge(*edge) for edge in edges), np.bool_, len(edges))
