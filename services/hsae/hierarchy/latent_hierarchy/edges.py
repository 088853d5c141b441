"""Edges from parent to child latents: chosen on the selecting images, scored and confirmed on the scored images."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Shaped
from scipy.stats import hypergeom

from hsae.errors import UserError
from hsae.hierarchy.config import EDGE_SOURCES, EdgeSource
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, cofiring
from hsae.hierarchy.latent_hierarchy.families import FamilyEdges, LatentFamilies, LatentTraits, latent_families
from hsae.hierarchy.latent_hierarchy.pairs import (
    IMPLICATION,
    MIN_F1,
    MIN_FIRE,
    LatentPairs,
    activation_pairs,
    taxonomy_pairs,
)
from hsae.hierarchy.latent_hierarchy.similarity import N_RANDOM_CLUSTERS, MatchedClusters
from hsae.hierarchy.statistics.ranks import RankedActivations
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class LatentEdges:
    """One row per source, parent and child, sorted by them; NaN where undefined.

    `c` is the child, `p` the parent, `a` their activations where they fire. Pairs are chosen on the selecting images;
    every number without `_select` in its name is of the scored images, of which there are `N`.

    Attributes:
        source: how the pair was found: `activation` or `taxonomy`.
        parent: index of the parent latent.
        child: index of the child latent.
        parent_node: source `taxonomy`: the node whose best latent is the parent (index into
            `InducedTaxonomy.synsets`); otherwise -1.
        child_node: source `taxonomy`: the direct hyponym whose best latent is the child; otherwise -1.
        n_parent_select: images on which the parent fires, of those on which pairs are chosen.
        n_child_select: images on which the child fires, of the same.
        n_both_select: images on which both fire, of the same.
        n_parent: images on which the parent fires.
        n_child: images on which the child fires.
        n_both: images on which both fire.
        implication: `P(p|c) = n_both / n_child`.
        expected_implication: `n_parent / N`, the implication of a child that fires on random images.
        adjusted_implication: `(implication - expected) / (1 - expected)`: 0 by chance, 1 where the parent always fires.
        implication_p: `P(X >= n_both)`, `X` hypergeometric with `N` images, `n_parent` of them the parent's, `n_child`
            drawn; of this pair alone, not corrected for the number of pairs.
        weighted_implication: `W(p|c)`, share of the child's activation on images on which the parent fires as well.
        reverse_implication: `P(c|p) = n_both / n_parent`.
        weighted_reverse_implication: `W(c|p)`, share of the parent's activation on images on which the child fires.
        dominance: `P(a_p > a_c | both)`; a tie does not count.
        miss_rate: `1 - implication`, share of the child's images on which the parent does not fire.
        not_dominant_share: `1 - dominance`, share of their common images on which the parent is not stronger.
        correlation: Spearman correlation of `a_p` and `a_c` over the images on which both fire.
        is_confirmed: the child fires on at least 20 scored images, and what chose the pair holds on them as well.
        is_ms_abstract: 1 if the child's monosemanticity score is greater than the parent's, else 0.
    """

    source: Shaped[np.ndarray, "n_edges"]
    parent: Int32[np.ndarray, "n_edges"]
    child: Int32[np.ndarray, "n_edges"]
    parent_node: Int32[np.ndarray, "n_edges"]
    child_node: Int32[np.ndarray, "n_edges"]
    n_parent_select: Int32[np.ndarray, "n_edges"]
    n_child_select: Int32[np.ndarray, "n_edges"]
    n_both_select: Int32[np.ndarray, "n_edges"]
    n_parent: Int32[np.ndarray, "n_edges"]
    n_child: Int32[np.ndarray, "n_edges"]
    n_both: Int32[np.ndarray, "n_edges"]
    implication: Float64[np.ndarray, "n_edges"]
    expected_implication: Float64[np.ndarray, "n_edges"]
    adjusted_implication: Float64[np.ndarray, "n_edges"]
    implication_p: Float64[np.ndarray, "n_edges"]
    weighted_implication: Float64[np.ndarray, "n_edges"]
    reverse_implication: Float64[np.ndarray, "n_edges"]
    weighted_reverse_implication: Float64[np.ndarray, "n_edges"]
    dominance: Float64[np.ndarray, "n_edges"]
    miss_rate: Float64[np.ndarray, "n_edges"]
    not_dominant_share: Float64[np.ndarray, "n_edges"]
    correlation: Float64[np.ndarray, "n_edges"]
    is_confirmed: Bool[np.ndarray, "n_edges"]
    is_ms_abstract: Float64[np.ndarray, "n_edges"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class NodeLatents(NamedTuple):
    """The best latent of every node, and how well it does.

    latent: chosen on the selecting images, -1 where there is none. f1_select: its F1 on these images, NaN for a node
    without any. f1: its F1 on the scored images.
    """

    latent: Int[np.ndarray, "n_nodes"]
    f1_select: Float[np.ndarray, "n_nodes"]
    f1: Float[np.ndarray, "n_nodes"]


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """Which pairs of latents are scored, and what their families are compared with (ours).

    Attributes:
        sources: what may name pairs.
        seed: seed of the random clusters.
        min_f1: the least F1 of a latent that stands for its node.
        min_fire: latents that fire on fewer selecting images are in no pair of the source `activation`; a pair whose
            child fires on fewer scored images is not confirmed, whatever its source.
        n_random: random clusters of every size.
    """

    sources: Collection[EdgeSource] = EDGE_SOURCES
    seed: int = 0
    min_f1: float = MIN_F1
    min_fire: int = MIN_FIRE
    n_random: int = N_RANDOM_CLUSTERS


def latent_hierarchy(
    selecting: RankedActivations,
    scored: RankedActivations,
    taxonomy: InducedTaxonomy,
    best: NodeLatents,
    traits: LatentTraits,
    rules: EdgeRules,
    *,
    check: Callable[[], None] = go_on,
) -> tuple[LatentEdges, LatentFamilies]:
    """Find and score parents and children among latents, by the taxonomy and by activations (arXiv 2606.22994).

    Args:
        selecting: activations of every latent on the images on which pairs are chosen; an activation that is not above
            the threshold counts as 0.
        scored: activations of the same latents on the images on which they are scored; may be the same object.
        taxonomy: the induced taxonomy.
        best: the best latent of every node.
        traits: what else is known of every latent.
        rules: which pairs are scored.
        check: called for every block of latents or pairs; may raise to stop.

    Returns:
        The edges, and one row per parent.

    Raises:
        UserError: an array does not fit the latents or the nodes, a node's best latent does not fire, the decoder or
            the embeddings hold NaN or infinite values, or a setting is out of range.
    """
    _check(selecting, scored, taxonomy, best, traits)
    if not 0 < rules.min_f1 <= 1:
        raise UserError(f"least F1 {rules.min_f1}: it must be greater than 0 and at most 1")
    if rules.n_random < 1:
        raise UserError(f"{rules.n_random} random clusters: there must be 1 at least")
    chosen_on = Firings.of(selecting)
    firings = chosen_on if scored is selecting else Firings.of(scored)
    finders: dict[EdgeSource, Callable[[], LatentPairs]] = {
        "activation": lambda: activation_pairs(chosen_on, min_fire=rules.min_fire, check=check),
        "taxonomy": lambda: taxonomy_pairs(taxonomy, best.latent, best.f1_select, min_f1=rules.min_f1),
    }
    named = [name for name in EDGE_SOURCES if name in rules.sources]
    found = [finders[name]() for name in named]
    pairs = LatentPairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))
    source = np.repeat(np.array(named), [len(part.child) for part in found])
    both_select = cofiring(chosen_on, pairs.child, pairs.parent, check=check)
    both = both_select if firings is chosen_on else cofiring(firings, pairs.child, pairs.parent, check=check)
    n_child, n_parent = firings.n_fire[pairs.child], firings.n_fire[pairs.parent]
    implication = _share(both.n_both, n_child)
    expected = _share(n_parent, np.full(len(n_parent), firings.n_images))
    weighted = _share(both.child_mass, firings.mass[pairs.child])
    weighted_reverse = _share(both.parent_mass, firings.mass[pairs.parent])
    stands_for_node = best.f1 >= rules.min_f1
    holds = np.where(
        source == "taxonomy",
        stands_for_node[pairs.parent_node] & stands_for_node[pairs.child_node],
        (weighted > IMPLICATION) & (weighted_reverse < IMPLICATION),
    )
    ms_child, ms_parent = traits.monosemanticity[pairs.child], traits.monosemanticity[pairs.parent]
    edges = LatentEdges(
        source=source,
        parent=pairs.parent,
        child=pairs.child,
        parent_node=pairs.parent_node,
        child_node=pairs.child_node,
        n_parent_select=chosen_on.n_fire[pairs.parent].astype(np.int32),
        n_child_select=chosen_on.n_fire[pairs.child].astype(np.int32),
        n_both_select=both_select.n_both.astype(np.int32),
        n_parent=n_parent.astype(np.int32),
        n_child=n_child.astype(np.int32),
        n_both=both.n_both.astype(np.int32),
        implication=implication,
        expected_implication=expected,
        adjusted_implication=_share(implication - expected, 1.0 - expected),
        implication_p=np.where(n_child > 0, hypergeom.sf(both.n_both - 1, firings.n_images, n_parent, n_child), np.nan),
        weighted_implication=weighted,
        reverse_implication=_share(both.n_both, n_parent),
        weighted_reverse_implication=weighted_reverse,
        dominance=both.dominance,
        miss_rate=1.0 - implication,
        not_dominant_share=1.0 - both.dominance,
        correlation=both.correlation,
        is_confirmed=holds & (n_child >= rules.min_fire),
        is_ms_abstract=np.where(np.isnan(ms_child) | np.isnan(ms_parent), np.nan, ms_child > ms_parent),
    )
    families = latent_families(
        firings,
        FamilyEdges(source, pairs.parent, pairs.child, edges.is_confirmed, edges.is_ms_abstract),
        traits,
        MatchedClusters(chosen_on.n_fire, rules.n_random, rules.seed),
    )
    return edges, families


def _share(
    part: Float[np.ndarray, "n"] | Int[np.ndarray, "n"], whole: Float[np.ndarray, "n"] | Int[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """`part / whole`, NaN where the whole is 0."""
    share: Float64[np.ndarray, "n"] = part / np.where(whole > 0, whole, np.nan)
    return share


def _check(
    selecting: RankedActivations,
    scored: RankedActivations,
    taxonomy: InducedTaxonomy,
    best: NodeLatents,
    traits: LatentTraits,
) -> None:
    n_nodes, n_latents = len(taxonomy.synsets), selecting.n_latents
    if scored.n_latents != n_latents:
        raise UserError(
            f"{n_latents} latents on the selecting images and {scored.n_latents} on the scored ones: give the "
            "activations of the same latents"
        )
    if {len(best.latent), len(best.f1_select), len(best.f1)} != {n_nodes}:
        raise UserError(
            f"best latents of {len(best.latent)} nodes and F1 of {len(best.f1_select)} and {len(best.f1)} for a "
            f"taxonomy of {n_nodes}: give one of each per node"
        )
    if len(traits.monosemanticity) != n_latents:
        raise UserError(
            f"{len(traits.monosemanticity)} monosemanticity scores for {n_latents} latents: give one per latent"
        )
    is_no_latent = (best.latent < -1) | (best.latent >= n_latents)
    is_dead = selecting.n_fire[np.where(is_no_latent, 0, best.latent)] == 0
    is_bad = (best.latent != -1) & (is_no_latent | is_dead)
    if is_bad.any():
        node = int(np.argmax(is_bad))
        raise UserError(
            f"the best latent of node {node} ({taxonomy.synsets[node].id}) is given as {int(best.latent[node])}, "
            "which fires on no image: give the best latents of the same activations"
        )
