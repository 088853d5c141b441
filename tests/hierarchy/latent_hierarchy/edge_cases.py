"""Activations in which latents are nested, and slow references for their pairs."""

import math

import networkx as nx
import numpy as np
import scipy.sparse as sp
from scipy.stats import spearmanr

from hsae.hierarchy.latent_hierarchy.edges import EdgeRules, NodeLatents, latent_hierarchy
from hsae.hierarchy.latent_hierarchy.families import LatentTraits
from hsae.hierarchy.statistics.ranks import rank_activations


def ranked_of(dense, threshold=0.0):
    return rank_activations(sp.csr_array(dense), threshold=threshold)


def hierarchy(ranked, taxonomy, best, f1, *, monosemanticity, scored=None, **options):
    """`latent_hierarchy` of known latents; `f1` is that of the selecting images and, if it is one array, of both.

    `options`: decoder and embeddings of the latents, and fields of `EdgeRules`.
    """
    decoder, embeddings = (options.pop(name, None) for name in ("decoder", "embeddings"))
    f1_select, f1_score = f1 if isinstance(f1, tuple) else (f1, f1)
    return latent_hierarchy(
        ranked,
        ranked if scored is None else scored,
        taxonomy,
        NodeLatents(best, f1_select, f1_score),
        LatentTraits(monosemanticity, decoder, embeddings),
        EdgeRules(**options),
    )


def nested_activations(rng):
    """Latents that fire where one before them does, on a few images strongly; some dead or equal, three in a circle."""
    n_images, n_latents = int(rng.integers(3, 30)), int(rng.integers(1, 11))
    fires = np.zeros((n_images, n_latents), np.bool_)
    strength = rng.choice([0.5, 1.0, 2.0, 40.0], size=fires.shape)
    in_circle = 3 if n_latents >= 3 and rng.random() < 0.3 else 0
    if in_circle:
        strength[:3, :3] = [[40, 0.5, 0], [0, 40, 0.5], [0.5, 0, 40]]
        fires[:3, :3] = strength[:3, :3] > 0
        fires[3:, 0] = rng.random() < 0.5  # fires elsewhere as well, weakly
        strength[3:, 0] = 0.5 / n_images
    for latent in range(in_circle, n_latents):
        kind = rng.random()
        above = fires[:, rng.integers(0, latent)] if latent and kind < 0.75 else np.ones(n_images, np.bool_)
        fires[:, latent] = above & (rng.random(n_images) < rng.choice([0.0, 0.6, 0.9, 1.0]))
    return (fires * strength).astype(np.float32)


def random_best(rng, n_nodes, n_fire):
    """A best latent of every node that fires, or none, with any F1."""
    alive = np.flatnonzero(n_fire)
    best = np.full(n_nodes, -1)
    if len(alive):
        best = np.where(rng.random(n_nodes) < 0.8, rng.choice(alive, n_nodes), -1)
    f1 = rng.choice([0.3, 0.5, 0.9, np.nan], n_nodes)
    return best.astype(np.int32), f1


def slow_spearman(x, y):
    if len(x) < 3 or len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        return math.nan
    return spearmanr(x, y).statistic


def slow_reduction(edges):
    """The edges whose end cannot be reached from their start once they are taken out."""

    def reached(start, left):
        found, newly = set(), {start}
        while newly:
            found |= newly
            newly = {p for c, p in left if c in newly} - found
        return found

    return [(c, p) for c, p in edges if p not in reached(c, [other for other in edges if other != (c, p)])]


def slow_activation_pairs(dense, threshold, min_fire, max_density=0.5):
    """From the dense matrix of W: the relation, its circles broken, and its reduction."""
    kept = np.where(dense > threshold, dense, 0).astype(np.float64)
    fires = kept > 0
    n_fire = fires.sum(axis=0)
    eligible = [j for j in range(dense.shape[1]) if max(1, min_fire) <= n_fire[j] <= max_density * len(dense)]
    w = {(c, p): kept[fires[:, p], c].sum() / kept[:, c].sum() for c in eligible for p in eligible}
    graph = nx.DiGraph((c, p) for c in eligible for p in eligible if c != p and w[c, p] > 0.9 and w[p, c] < 0.9)
    for component in list(nx.strongly_connected_components(graph)):
        graph.remove_edges_from([(c, p) for c, p in graph.edges if {c, p} <= component and not n_fire[c] < n_fire[p]])
    return sorted((p, c) for c, p in slow_reduction(list(graph.edges)))


def slow_taxonomy_pairs(taxonomy, best, f1, min_f1):
    named = {}
    for child_node, parent_node in taxonomy.hypernym_edges.tolist():
        c, p = best[child_node], best[parent_node]
        if c < 0 or p < 0 or c == p or not (f1[child_node] >= min_f1 and f1[parent_node] >= min_f1):
            continue
        rank = (-taxonomy.depth[child_node], child_node, parent_node)
        named[p, c] = min(named.get((p, c), rank), rank)
    return sorted((p, c, rank[2], rank[1]) for (p, c), rank in named.items())
