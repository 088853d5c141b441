"""Families: a parent latent with all of its children; refinement and sibling similarity."""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, Int32, Int64, Shaped

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, grouped_spearman, overlaps

N_RANDOM_CLUSTERS = 100
"""Number of random clusters of latents with which the children of a parent are compared (ours)."""


class RandomClusters(NamedTuple):
    """Random clusters of latents: how many of each size, and their seed."""

    n: int
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class LatentFamilies:
    """One row per source and parent with children, sorted by source, then parent; NaN where undefined.

    Attributes:
        source: how the pairs were found: `activation` or `taxonomy`.
        parent: index of the parent latent.
        n_children: number of its children.
        n_parent: images on which the parent fires.
        refinement: share of them on which any child fires.
        correlation: Spearman correlation, over these images, of the parent's activation and its children's maximum.
        sibling_similarity: mean cosine of the decoder directions of two children; NaN with one child.
        random_similarity: mean of the same over random clusters of as many latents.
        random_share: share of the random clusters whose similarity is at least that of the children.
        ms_abstract_share: share of the children whose monosemanticity score is greater than the parent's, among the
            children for which it is known.
    """

    source: Shaped[np.ndarray, "n_families"]
    parent: Int32[np.ndarray, "n_families"]
    n_children: Int32[np.ndarray, "n_families"]
    n_parent: Int32[np.ndarray, "n_families"]
    refinement: Float64[np.ndarray, "n_families"]
    correlation: Float64[np.ndarray, "n_families"]
    sibling_similarity: Float64[np.ndarray, "n_families"]
    random_similarity: Float64[np.ndarray, "n_families"]
    random_share: Float64[np.ndarray, "n_families"]
    ms_abstract_share: Float64[np.ndarray, "n_families"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def latent_families(
    firings: Firings,
    source: Shaped[np.ndarray, "n_edges"],
    parent: Int32[np.ndarray, "n_edges"],
    child: Int32[np.ndarray, "n_edges"],
    is_ms_abstract: Float64[np.ndarray, "n_edges"],
    *,
    decoder: Float32[np.ndarray, "n_latents d_model"] | None = None,
    clusters: RandomClusters,
) -> LatentFamilies:
    """Score the family of every parent (arXiv 2606.22994; definitions that its abstract does not give are ours).

    Args:
        firings: activations of every latent.
        source: source of every edge; edges are sorted by source, then parent, then child.
        parent: parent of every edge.
        child: child of every edge.
        is_ms_abstract: for every edge, 1 where the child's monosemanticity score is greater; NaN where unknown.
        decoder: decoder direction of every latent, of any length; without it the similarities are NaN.
        clusters: the random clusters that the children of a parent are compared with.

    Raises:
        UserError: there is not one decoder direction per latent, or one holds NaN or infinite values.
    """
    is_first = np.ones(len(parent), np.bool_)
    is_first[1:] = (parent[1:] != parent[:-1]) | (source[1:] != source[:-1])
    first = np.flatnonzero(is_first)
    n_children = np.diff(first, append=len(parent))
    refinement, correlation = _refinement(firings, parent[first], child, n_children)
    family = np.repeat(np.arange(len(first)), n_children)
    known = ~np.isnan(is_ms_abstract)
    n_known = np.bincount(family[known], minlength=len(first))
    n_abstract = np.bincount(family[known], is_ms_abstract[known], minlength=len(first))
    similarity, random_similarity, random_share = (np.full(len(first), np.nan) for _ in range(3))
    if decoder is not None:
        unit = _unit(decoder, firings.n_latents)
        ends = np.concatenate(([0], np.cumsum(n_children)))
        similarity = _mean_cosine(unit, child, ends)
        alive = np.flatnonzero(firings.n_fire > 0)
        random_similarity, random_share = _against_random(unit, alive, similarity, n_children, clusters)
    return LatentFamilies(
        source=source[first],
        parent=parent[first],
        n_children=n_children.astype(np.int32),
        n_parent=firings.n_fire[parent[first]].astype(np.int32),
        refinement=refinement,
        correlation=correlation,
        sibling_similarity=similarity,
        random_similarity=random_similarity,
        random_share=random_share,
        ms_abstract_share=n_abstract / np.where(n_known > 0, n_known, np.nan),
    )


def _refinement(
    firings: Firings,
    parent: Int32[np.ndarray, "n_families"],
    child: Int32[np.ndarray, "n_edges"],
    n_children: Int64[np.ndarray, "n_families"],
) -> tuple[Float64[np.ndarray, "n_families"], Float64[np.ndarray, "n_families"]]:
    """`P(any child fires | parent fires)` and, over the parent's images, Spearman of `a_p` and `max_c a_c`.

    A child that does not fire counts as 0 in the maximum, so images on which no child fires tie at the low end (ours).
    """
    refinement, correlation = np.full(len(parent), np.nan), np.full(len(parent), np.nan)
    edge_ends = np.concatenate(([0], np.cumsum(n_children)))
    image_ends = np.concatenate(([0], np.cumsum(firings.n_fire[parent])))
    for families in latent_blocks(image_ends):
        entry, family = firings.entries(parent[families])
        # Position of a parent's entry in the block: its index in `firings` minus `shift`.
        shift = firings.indptr[parent[families]] - (image_ends[families] - image_ends[families.start])
        edges = slice(edge_ends[families.start], edge_ends[families.stop])
        edge_family = np.repeat(np.arange(len(shift)), n_children[families])
        strongest = np.zeros(len(entry), np.float32)
        for pairs, both in overlaps(firings, child[edges], parent[families][edge_family]):
            place = both.parent - shift[edge_family[pairs][both.pair]]
            np.maximum.at(strongest, place, firings.activation[both.child])
        n_fire = np.bincount(family, minlength=len(shift))
        n_refined = np.bincount(family, strongest > 0, minlength=len(shift))
        refinement[families] = n_refined / np.where(n_fire > 0, n_fire, np.nan)
        correlation[families] = grouped_spearman(family, firings.activation[entry], strongest, len(shift))
    return refinement, correlation


def _unit(
    decoder: Float32[np.ndarray, "n_latents d_model"], n_latents: int
) -> Float64[np.ndarray, "n_latents d_model"]:
    """Every direction scaled to length 1; a zero direction stays zero and has similarity 0 to all others."""
    if len(decoder) != n_latents:
        raise UserError(f"{len(decoder)} decoder directions for {n_latents} latents: give one direction per latent")
    is_bad = ~np.isfinite(decoder).all(axis=1)
    if is_bad.any():
        raise UserError(
            f"the decoder directions of {int(is_bad.sum())} latents hold NaN or infinite values (the first: latent "
            f"{int(np.argmax(is_bad))}): check the SAE"
        )
    unit = decoder.astype(np.float64)
    length = np.sqrt(np.einsum("jd,jd->j", unit, unit))
    unit /= np.where(length > 0, length, 1.0)[:, np.newaxis]
    return unit


def _mean_cosine(
    unit: Float64[np.ndarray, "n_latents d_model"],
    members: Int[np.ndarray, "n_members"],
    ends: Int64[np.ndarray, "n_clusters+1"],
) -> Float64[np.ndarray, "n_clusters"]:
    """Mean cosine of two members of every cluster, in linear time: `(|sum u|^2 - sum |u|^2) / (k (k - 1))`.

    The members of cluster `i` are `members[ends[i]:ends[i + 1]]`; NaN for a cluster with one member.
    """
    clusters = sp.csr_array((np.ones(len(members)), members, ends), shape=(len(ends) - 1, len(unit)))
    total = clusters @ unit
    squares = clusters @ np.einsum("jd,jd->j", unit, unit)
    size = np.diff(ends)
    n_pairs = np.where(size > 1, size * (size - 1.0), np.nan)
    mean: Float64[np.ndarray, "n_clusters"] = (np.einsum("id,id->i", total, total) - squares) / n_pairs
    return mean


def _against_random(
    unit: Float64[np.ndarray, "n_latents d_model"],
    alive: Int64[np.ndarray, "n_alive"],
    similarity: Float64[np.ndarray, "n_families"],
    n_children: Int64[np.ndarray, "n_families"],
    clusters: RandomClusters,
) -> tuple[Float64[np.ndarray, "n_families"], Float64[np.ndarray, "n_families"]]:
    """Mean similarity of random clusters of a family's size, and the share of them at least as similar as the family.

    Clusters are drawn from the live latents. Families of one size share them. Each size has its own generator,
    `PCG64((seed, size))`, so the numbers of a family do not depend on the other families.
    """
    random_similarity, random_share = np.full(len(similarity), np.nan), np.full(len(similarity), np.nan)
    for size in np.unique(n_children[n_children > 1]):
        rng = np.random.Generator(np.random.PCG64((clusters.seed, int(size))))
        members = [np.sort(rng.choice(alive, size, replace=False, shuffle=False)) for _ in range(clusters.n)]
        drawn = _mean_cosine(unit, np.concatenate(members), np.arange(clusters.n + 1) * size)
        of_size = np.flatnonzero(n_children == size)
        random_similarity[of_size] = drawn.mean()
        random_share[of_size] = (drawn >= similarity[of_size, np.newaxis]).mean(axis=1)
    return random_similarity, random_share
