"""Families: a parent latent with all of its children; refinement, correlation and sibling similarity."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Shaped

from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, grouped_spearman
from hsae.hierarchy.latent_hierarchy.similarity import (
    MatchedClusters,
    SiblingSimilarity,
    decoder_directions,
    mean_images,
    sibling_similarity,
)


@dataclass(frozen=True, slots=True, eq=False)
class LatentTraits:
    """What is known of every latent beside its activations.

    Attributes:
        monosemanticity: monosemanticity score, NaN where unknown.
        decoder: the direction that the latent writes; without it the similarities by decoder are NaN.
        embeddings: of the scored images; without them the similarities by images are NaN.
    """

    monosemanticity: Float64[np.ndarray, "n_latents"]
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None
    embeddings: Float[np.ndarray, "n_images d_embedding"] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LatentFamilies:
    """One row per source and parent with children, sorted by source, then parent; NaN where undefined.

    Attributes:
        source: how the pairs were found: `activation` or `taxonomy`.
        parent: index of the parent latent.
        n_children: number of its children.
        n_confirmed: children whose edges are confirmed.
        n_parent: images on which the parent fires.
        n_any_child: images on which any child fires.
        refinement: share of the parent's images on which any child fires.
        correlation: Spearman correlation, over the images on which any child fires, of the parent's activation (0 where
            it is silent) and its children's maximum.
        sibling_similarity_decoder: mean cosine of the decoder directions of two children; NaN with one child.
        random_similarity_decoder: mean of the same over random clusters of as many latents of the same densities.
        random_share_decoder: share of the random clusters whose similarity is at least that of the children.
        sibling_similarity_images: mean cosine of two children's mean images (`mean_images`); NaN with one child.
        random_similarity_images: as `random_similarity_decoder`.
        random_share_images: as `random_share_decoder`.
        ms_abstract_share: share of the children whose monosemanticity score is greater than the parent's, among the
            children for which it is known.
    """

    source: Shaped[np.ndarray, "n_families"]
    parent: Int32[np.ndarray, "n_families"]
    n_children: Int32[np.ndarray, "n_families"]
    n_confirmed: Int32[np.ndarray, "n_families"]
    n_parent: Int32[np.ndarray, "n_families"]
    n_any_child: Int32[np.ndarray, "n_families"]
    refinement: Float64[np.ndarray, "n_families"]
    correlation: Float64[np.ndarray, "n_families"]
    sibling_similarity_decoder: Float64[np.ndarray, "n_families"]
    random_similarity_decoder: Float64[np.ndarray, "n_families"]
    random_share_decoder: Float64[np.ndarray, "n_families"]
    sibling_similarity_images: Float64[np.ndarray, "n_families"]
    random_similarity_images: Float64[np.ndarray, "n_families"]
    random_share_images: Float64[np.ndarray, "n_families"]
    ms_abstract_share: Float64[np.ndarray, "n_families"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class FamilyEdges:
    """What the families need of every edge; edges are sorted by source, then parent, then child.

    Attributes:
        source: how the pair was found.
        parent: parent of every edge.
        child: child of every edge.
        is_confirmed: whether the edge holds on the scored images.
        is_ms_abstract: 1 where the child's monosemanticity score is greater; NaN where unknown.
    """

    source: Shaped[np.ndarray, "n_edges"]
    parent: Int32[np.ndarray, "n_edges"]
    child: Int32[np.ndarray, "n_edges"]
    is_confirmed: Bool[np.ndarray, "n_edges"]
    is_ms_abstract: Float64[np.ndarray, "n_edges"]


def latent_families(
    firings: Firings, edges: FamilyEdges, traits: LatentTraits, clusters: MatchedClusters
) -> LatentFamilies:
    """Score the family of every parent (arXiv 2606.22994; definitions that its abstract does not give are ours).

    Args:
        firings: activations of every latent on the scored images.
        edges: the edges that are grouped into families.
        traits: what else is known of every latent.
        clusters: the random clusters that the children of a parent are compared with.

    Raises:
        UserError: there is not one decoder direction per latent or one embedding per image, or one holds NaN or
            infinite values.
    """
    parent, child = edges.parent, edges.child
    is_first = np.ones(len(parent), np.bool_)
    is_first[1:] = (parent[1:] != parent[:-1]) | (edges.source[1:] != edges.source[:-1])
    first = np.flatnonzero(is_first)
    n_children = np.diff(first, append=len(parent))
    n_any_child, n_refined, correlation = _together(firings, parent[first], child, n_children)
    n_parent = firings.n_fire[parent[first]]
    family = np.repeat(np.arange(len(first)), n_children)
    known = ~np.isnan(edges.is_ms_abstract)
    n_known = np.bincount(family[known], minlength=len(first))
    n_abstract = np.bincount(family[known], edges.is_ms_abstract[known], minlength=len(first))
    unknown = SiblingSimilarity(*(np.full(len(first), np.nan) for _ in range(3)))
    by_decoder = by_images = unknown
    if traits.decoder is not None:
        directions = decoder_directions(traits.decoder, firings.n_latents)
        by_decoder = sibling_similarity(directions, child, n_children, clusters)
    if traits.embeddings is not None and (n_children > 1).any():
        by_images = sibling_similarity(mean_images(firings, traits.embeddings), child, n_children, clusters)
    return LatentFamilies(
        source=edges.source[first],
        parent=parent[first],
        n_children=n_children.astype(np.int32),
        n_confirmed=np.bincount(family[edges.is_confirmed], minlength=len(first)).astype(np.int32),
        n_parent=n_parent.astype(np.int32),
        n_any_child=n_any_child.astype(np.int32),
        refinement=n_refined / np.where(n_parent > 0, n_parent, np.nan),
        correlation=correlation,
        sibling_similarity_decoder=by_decoder.similarity,
        random_similarity_decoder=by_decoder.random,
        random_share_decoder=by_decoder.random_share,
        sibling_similarity_images=by_images.similarity,
        random_similarity_images=by_images.random,
        random_share_images=by_images.random_share,
        ms_abstract_share=n_abstract / np.where(n_known > 0, n_known, np.nan),
    )


def _together(
    firings: Firings,
    parent: Int32[np.ndarray, "n_families"],
    child: Int32[np.ndarray, "n_edges"],
    n_children: Int64[np.ndarray, "n_families"],
) -> tuple[Int64[np.ndarray, "n_families"], Int64[np.ndarray, "n_families"], Float64[np.ndarray, "n_families"]]:
    """Of every family: images on which any child fires, those of them on which the parent does, and the correlation.

    It is Spearman's of `a_p` and `max_c a_c` over the images on which any child fires. A parent that is silent on one
    of them has the activation 0 there, so these images tie at the low end.
    """
    n_any_child, n_refined = np.zeros(len(parent), np.int64), np.zeros(len(parent), np.int64)
    correlation = np.full(len(parent), np.nan)
    edge_ends = np.concatenate(([0], np.cumsum(n_children)))
    firing_ends = np.concatenate(([0], np.cumsum(firings.n_fire[child])))
    for families in latent_blocks(firing_ends[edge_ends]):
        width = families.stop - families.start
        entry, edge = firings.entries(child[edge_ends[families.start] : edge_ends[families.stop]])
        of_edge = np.repeat(np.arange(width), n_children[families])
        # One key for every image of a family; the maximum over the activations with this key is that over the children.
        key, group = np.unique(of_edge[edge] * firings.n_images + firings.image[entry], return_inverse=True)
        strongest = np.zeros(len(key), np.float32)
        np.maximum.at(strongest, group, firings.activation[entry])
        family, image = np.divmod(key, firings.n_images)
        of_parent = _activations(firings, parent[families][family], image)
        n_any_child[families] = np.bincount(family, minlength=width)
        n_refined[families] = np.bincount(family, of_parent > 0, minlength=width)
        correlation[families] = grouped_spearman(family, of_parent, strongest, width)
    return n_any_child, n_refined, correlation


def _activations(
    firings: Firings, latent: Int32[np.ndarray, "n"], image: Int64[np.ndarray, "n"]
) -> Float32[np.ndarray, "n"]:
    """The activation of a latent on an image, pair by pair; 0 where it does not fire."""
    if not len(firings.key):
        return np.zeros(len(latent), np.float32)
    wanted = latent.astype(np.int64) * firings.n_images + image
    found = np.minimum(np.searchsorted(firings.key, wanted), len(firings.key) - 1)
    return np.where(firings.key[found] == wanted, firings.activation[found], np.float32(0))
