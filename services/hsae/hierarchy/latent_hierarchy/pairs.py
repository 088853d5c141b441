"""Which latent may be the parent of which: pairs that the taxonomy names, and pairs that the activations name."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int, Int32, Int64
from scipy.sparse.csgraph import connected_components

from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, implying_pairs
from hsae.taxonomy import InducedTaxonomy

IMPLICATION = 0.9
"""The activations name `p` a parent of `c` when `W(p|c)` is above this and `W(c|p)` below (arXiv 2606.22994)."""

MIN_F1 = 0.5
"""From this F1 on the best latent of a node stands for it (ours)."""

MIN_FIRE = 5
"""A latent that fires on fewer images is in no pair that the activations name (ours)."""


MAX_DENSITY = 0.5
"""A latent that fires on a greater share of the images is in no such pair either: most others imply it (ours)."""


class LatentPairs(NamedTuple):
    """Child and parent of every pair, sorted by parent, then child, without repetition.

    child_node, parent_node: the nodes whose best latents they are, -1 where no taxonomy was asked.
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
    """The best latent of every node with that of each of its direct hyponyms (arXiv 2606.22994).

    A pair counts where both nodes have a best latent with an F1 of at least `min_f1`, and not the same one. Where
    several pairs of nodes give one pair of latents, it is named after the one with the deepest hyponym; ties: the lower
    hyponym, then the lower hypernym (ours). The pairs are the taxonomy's, whatever the latents do: a latent that is the
    best of several nodes can be above a latent for one pair of nodes and below it for another.

    Args:
        taxonomy: the induced taxonomy.
        node_best_latent: latent with the best F1 at every node, -1 where there is none.
        node_best_f1: its F1, NaN for a node without images.
        min_f1: the least F1 of a latent that stands for its node.
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

    `W` is the implication weighted by the activations of the latent that implies. Three latents can imply one another
    in a circle: each may have most of its mass where the next one fires weakly. Latents on a common circle have no rank
    among one another by `W`, so between two of them only a pair of which the parent fires on more images than the child
    is kept (ours); no circle is left then. Of the rest a pair is dropped when a chain of other pairs leads from the
    child to the parent.

    Args:
        firings: activations of every latent.
        min_fire: latents that fire on fewer images are left out.
        max_density: and so are those that fire on a greater share of them.
        check: called for every block of latents; may raise to stop.
    """
    is_eligible = (firings.n_fire >= min_fire) & (firings.n_fire <= max_density * firings.n_images)
    child, parent, share = implying_pairs(firings, is_eligible, IMPLICATION, check=check)
    key = child * firings.n_latents + parent
    is_mutual = np.isin(parent * firings.n_latents + child, key, assume_unique=True)
    chosen = (share > IMPLICATION) & ~is_mutual
    child, parent = child[chosen], parent[chosen]
    open_chain = without_circles(child, parent, firings.n_fire)
    child, parent = child[open_chain], parent[open_chain]
    needed = transitive_reduction(child, parent, firings.n_latents)
    child, parent = child[needed], parent[needed]
    order = np.lexsort((child, parent))
    no_node = np.full(len(order), -1, np.int32)
    return LatentPairs(child[order].astype(np.int32), parent[order].astype(np.int32), no_node, no_node)


def without_circles(
    child: Int64[np.ndarray, "n_edges"], parent: Int64[np.ndarray, "n_edges"], n_fire: Int64[np.ndarray, "n_latents"]
) -> Bool[np.ndarray, "n_edges"]:
    """Edges that stay: those between strongly connected components, in a component those to the greater `n_fire`."""
    shape = (len(n_fire), len(n_fire))
    graph = sp.csr_array((np.ones(len(child), np.int8), (child, parent)), shape=shape)
    component: Int32[np.ndarray, "n_latents"]
    _, component = connected_components(graph, directed=True, connection="strong")
    stays: Bool[np.ndarray, "n_edges"] = (component[child] != component[parent]) | (n_fire[child] < n_fire[parent])
    return stays


def transitive_reduction(
    child: Int64[np.ndarray, "n_edges"], parent: Int64[np.ndarray, "n_edges"], n_latents: int
) -> Bool[np.ndarray, "n_edges"]:
    """Edges of an acyclic graph that no chain of other edges replaces: its transitive reduction, which is unique.

    From the top down, every latent is given the set of all latents above it, one bit each; an edge is replaced when its
    parent is above another parent of the child. Memory is `n_parents**2` bits.

    Args:
        child: of every edge, ascending, then by parent, without repetition.
        parent: of every edge.
        n_latents: latents; both are below it.
    """
    parents, place = np.unique(parent, return_inverse=True)
    above_row = np.full(n_latents, -1)  # of the latents that are parents themselves
    above_row[parents] = np.arange(len(parents))
    above = np.zeros((len(parents), (len(parents) + 7) // 8), np.uint8)
    n_open = np.bincount(child, minlength=n_latents)
    up = np.concatenate(([0], np.cumsum(n_open)))
    by_parent = np.argsort(parent, kind="stable")
    down = np.searchsorted(parent[by_parent], np.arange(n_latents + 1))
    is_needed = np.zeros(len(child), np.bool_)
    pending = deque(np.flatnonzero(n_open == 0).tolist())
    while pending:
        latent = pending.popleft()
        edges = slice(up[latent], up[latent + 1])
        if edges.start < edges.stop:
            higher = np.bitwise_or.reduce(above[place[edges]], axis=0)
            is_above = np.unpackbits(higher, count=len(parents)).astype(np.bool_)
            is_needed[edges] = ~is_above[place[edges]]
            if above_row[latent] >= 0:
                is_above[place[edges]] = True
                above[above_row[latent]] = np.packbits(is_above)
        below = child[by_parent[down[latent] : down[latent + 1]]]
        n_open[below] -= 1
        pending.extend(below[n_open[below] == 0].tolist())
    return is_needed
