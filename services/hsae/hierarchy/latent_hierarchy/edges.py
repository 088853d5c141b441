"""Edges from parent to child latents, with implication, dominance and absorption."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32, Shaped

from hsae.errors import UserError
from hsae.hierarchy.config import EDGE_SOURCES, EdgeSource
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, cofiring
from hsae.hierarchy.latent_hierarchy.families import N_RANDOM_CLUSTERS, LatentFamilies, RandomClusters, latent_families
from hsae.hierarchy.latent_hierarchy.pairs import MIN_F1, MIN_FIRE, LatentPairs, activation_pairs, taxonomy_pairs
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class LatentEdges:
    """One row per source, parent and child, sorted by them; NaN where undefined.

    `c` is the child, `p` the parent, `a` their activations where they fire.

    Attributes:
        source: how the pair was found: `activation` or `taxonomy`.
        parent: index of the parent latent.
        child: index of the child latent.
        parent_node: source `taxonomy`: the node whose best latent is the parent (index into
            `InducedTaxonomy.synsets`); otherwise -1.
        child_node: source `taxonomy`: the direct hyponym whose best latent is the child; otherwise -1.
        n_parent: images on which the parent fires.
        n_child: images on which the child fires.
        n_both: images on which both fire.
        implication: `P(p|c) = n_both / n_child`.
        weighted_implication: `W(p|c)`, share of the child's activation on images on which the parent fires as well.
        reverse_implication: `P(c|p) = n_both / n_parent`.
        weighted_reverse_implication: `W(c|p)`, share of the parent's activation on images on which the child fires.
        dominance: `P(a_p > a_c | both)`; a tie does not count.
        hard_absorption: `1 - implication`, share of the child's images on which the parent does not fire.
        soft_absorption: `1 - dominance`, share of their common images on which the parent is not stronger.
        correlation: Spearman correlation of `a_p` and `a_c` over the images on which both fire.
        is_ms_abstract: 1 if the child's monosemanticity score is greater than the parent's, else 0.
    """

    source: Shaped[np.ndarray, "n_edges"]
    parent: Int32[np.ndarray, "n_edges"]
    child: Int32[np.ndarray, "n_edges"]
    parent_node: Int32[np.ndarray, "n_edges"]
    child_node: Int32[np.ndarray, "n_edges"]
    n_parent: Int32[np.ndarray, "n_edges"]
    n_child: Int32[np.ndarray, "n_edges"]
    n_both: Int32[np.ndarray, "n_edges"]
    implication: Float64[np.ndarray, "n_edges"]
    weighted_implication: Float64[np.ndarray, "n_edges"]
    reverse_implication: Float64[np.ndarray, "n_edges"]
    weighted_reverse_implication: Float64[np.ndarray, "n_edges"]
    dominance: Float64[np.ndarray, "n_edges"]
    hard_absorption: Float64[np.ndarray, "n_edges"]
    soft_absorption: Float64[np.ndarray, "n_edges"]
    correlation: Float64[np.ndarray, "n_edges"]
    is_ms_abstract: Float64[np.ndarray, "n_edges"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class LatentTraits:
    """What is known of every latent beside its activations.

    Attributes:
        monosemanticity: monosemanticity score, NaN where unknown.
        decoder: the direction that the latent writes; without it the sibling similarities are NaN.
    """

    monosemanticity: Float64[np.ndarray, "n_latents"]
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """Which pairs of latents are scored, and what their families are compared with (ours).

    Attributes:
        sources: what may name pairs.
        seed: seed of the random clusters.
        min_f1: the least F1 of a latent that stands for its node.
        min_fire: latents that fire on fewer images are in no pair of the source `activation`.
        n_random: random clusters of every size.
    """

    sources: Collection[EdgeSource] = EDGE_SOURCES
    seed: int = 0
    min_f1: float = MIN_F1
    min_fire: int = MIN_FIRE
    n_random: int = N_RANDOM_CLUSTERS


def latent_hierarchy(
    ranked: RankedActivations,
    taxonomy: InducedTaxonomy,
    node_best_latent: Int[np.ndarray, "n_nodes"],
    node_best_f1: Float[np.ndarray, "n_nodes"],
    traits: LatentTraits,
    rules: EdgeRules,
    *,
    check: Callable[[], None] = go_on,
) -> tuple[LatentEdges, LatentFamilies]:
    """Find and score parents and children among latents, by the taxonomy and by activations (arXiv 2606.22994).

    Args:
        ranked: activations of every latent; an activation that is not above the threshold counts as 0.
        taxonomy: the induced taxonomy.
        node_best_latent: latent with the best F1 at every node, -1 where there is none (`Shortlist`).
        node_best_f1: its F1, NaN for a node without images.
        traits: what else is known of every latent.
        rules: which pairs are scored.
        check: called for every block of latents or pairs; may raise to stop.

    Returns:
        The edges, and one row per parent.

    Raises:
        UserError: an array does not fit the latents or the nodes, a node's best latent does not fire, the decoder holds
            NaN or infinite values, or a setting is out of range.
    """
    _check(ranked, taxonomy, node_best_latent, node_best_f1, traits.monosemanticity)
    if not 0 < rules.min_f1 <= 1:
        raise UserError(f"least F1 {rules.min_f1}: it must be greater than 0 and at most 1")
    if rules.n_random < 1:
        raise UserError(f"{rules.n_random} random clusters: there must be 1 at least")
    firings = Firings.of(ranked)
    finders: dict[EdgeSource, Callable[[], LatentPairs]] = {
        "activation": lambda: activation_pairs(firings, min_fire=rules.min_fire, check=check),
        "taxonomy": lambda: taxonomy_pairs(taxonomy, node_best_latent, node_best_f1, min_f1=rules.min_f1),
    }
    named = [name for name in EDGE_SOURCES if name in rules.sources]
    found = [finders[name]() for name in named]
    pairs = LatentPairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    source = np.repeat(np.array(named), [len(part.child) for part in found])
    edges = _latent_edges(firings, source, pairs, traits.monosemanticity, check)
    families = latent_families(
        firings,
        source,
        pairs.parent,
        pairs.child,
        edges.is_ms_abstract,
        decoder=traits.decoder,
        clusters=RandomClusters(rules.n_random, rules.seed),
    )
    return edges, families


def _latent_edges(
    firings: Firings,
    source: Shaped[np.ndarray, "n_edges"],
    pairs: LatentPairs,
    monosemanticity: Float64[np.ndarray, "n_latents"],
    check: Callable[[], None],
) -> LatentEdges:
    both = cofiring(firings, pairs.child, pairs.parent, check=check)
    n_child, n_parent = firings.n_fire[pairs.child], firings.n_fire[pairs.parent]
    implication = both.n_both / n_child
    ms_child, ms_parent = monosemanticity[pairs.child], monosemanticity[pairs.parent]
    is_known = ~(np.isnan(ms_child) | np.isnan(ms_parent))
    return LatentEdges(
        source=source,
        parent=pairs.parent,
        child=pairs.child,
        parent_node=pairs.parent_node,
        child_node=pairs.child_node,
        n_parent=n_parent.astype(np.int32),
        n_child=n_child.astype(np.int32),
        n_both=both.n_both.astype(np.int32),
        implication=implication,
        weighted_implication=both.child_mass / firings.mass[pairs.child],
        reverse_implication=both.n_both / n_parent,
        weighted_reverse_implication=both.parent_mass / firings.mass[pairs.parent],
        dominance=both.dominance,
        hard_absorption=1.0 - implication,
        soft_absorption=1.0 - both.dominance,
        correlation=both.correlation,
        is_ms_abstract=np.where(is_known, ms_child > ms_parent, np.nan),
    )


def _check(
    ranked: RankedActivations,
    taxonomy: InducedTaxonomy,
    node_best_latent: Int[np.ndarray, "n_nodes"],
    node_best_f1: Float[np.ndarray, "n_nodes"],
    monosemanticity: Float64[np.ndarray, "n_latents"],
) -> None:
    n_nodes = len(taxonomy.synsets)
    if len(node_best_latent) != n_nodes or len(node_best_f1) != n_nodes:
        raise UserError(
            f"best latents of {len(node_best_latent)} nodes and F1 of {len(node_best_f1)} for a taxonomy of {n_nodes}: "
            "give one of each per node"
        )
    if len(monosemanticity) != ranked.n_latents:
        raise UserError(
            f"{len(monosemanticity)} monosemanticity scores for {ranked.n_latents} latents: give one per latent"
        )
    is_no_latent = (node_best_latent < -1) | (node_best_latent >= ranked.n_latents)
    is_dead = ranked.n_fire[np.where(is_no_latent, 0, node_best_latent)] == 0
    is_bad = (node_best_latent != -1) & (is_no_latent | is_dead)
    if is_bad.any():
        node = int(np.argmax(is_bad))
        raise UserError(
            f"the best latent of node {node} ({taxonomy.synsets[node].id}) is given as {int(node_best_latent[node])}, "
            "which fires on no image: give the best latents of the same activations"
        )
