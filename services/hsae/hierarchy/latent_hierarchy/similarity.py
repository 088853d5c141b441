"""How similar the children of one parent are, beside random clusters of latents that fire as often."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import ranges
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.latent_hierarchy.cofiring import Firings
from hsae.hierarchy.scores.monosemanticity import embedding_lengths

N_RANDOM_CLUSTERS = 100
"""Number of random clusters of latents with which the children of a parent are compared (ours)."""

_LEAST_LENGTH = 1e-6
"""A mean of unit embeddings that is nearer to the mean of all images has no direction but that of rounding errors."""

_BLOCK_FEATURES = 64
"""Features of the embedding per product: a block of 50,000 images in float64 is 26 MB."""


@dataclass(frozen=True, eq=False)
class UnitVectors:
    """A direction of every latent.

    Attributes:
        unit: length 1; zeros where the latent has none.
        is_known: latents whose similarity to others is defined.
    """

    unit: Float64[np.ndarray, "n_latents d"]
    is_known: Bool[np.ndarray, "n_latents"]

    @cached_property
    def squares(self) -> Float64[np.ndarray, "n_latents"]:
        """The square of every length: for a hundred clusters of every family it is computed once."""
        squares: Float64[np.ndarray, "n_latents"] = np.einsum("jd,jd->j", self.unit, self.unit)
        return squares


class SiblingSimilarity(NamedTuple):
    """One row per family; NaN where undefined.

    similarity: mean cosine of two children. random: mean of the same over the random clusters. random_share: share of
    the random clusters that are at least as similar as the children.
    """

    similarity: Float64[np.ndarray, "n_families"]
    random: Float64[np.ndarray, "n_families"]
    random_share: Float64[np.ndarray, "n_families"]


def decoder_directions(decoder: Float32[np.ndarray, "n_latents d_model"], n_latents: int) -> UnitVectors:
    """The directions that the latents write; a direction of zeros stays zero and has similarity 0 to all others.

    Raises:
        UserError: there is not one direction per latent, or one holds NaN or infinite values.
    """
    if len(decoder) != n_latents:
        raise UserError(f"{len(decoder)} decoder directions for {n_latents} latents: give one direction per latent")
    is_bad = ~np.isfinite(decoder).all(axis=1)
    if is_bad.any():
        raise UserError(
            f"the decoder directions of {int(is_bad.sum())} latents hold NaN or infinite values (the first: latent "
            f"{int(np.argmax(is_bad))}): check the SAE"
        )
    unit, _ = _scaled_to_one(decoder.astype(np.float64))
    return UnitVectors(unit, np.ones(n_latents, np.bool_))


def mean_images(firings: Firings, embeddings: Float[np.ndarray, "n_images d_embedding"]) -> UnitVectors:
    """Where the images on which a latent fires lie, seen from the mean of all images (ours).

    The mean of the unit embeddings of these images, less the mean over all images. Without that centring all latents
    would be similar, because embeddings of images have a large part in common. A latent that fires on no image, or
    whose mean is that of all images, has no direction.

    Raises:
        UserError: there is not one embedding per image, or one holds NaN or infinite values.
    """
    n_images, d_embedding = embeddings.shape
    if n_images != firings.n_images:
        raise UserError(
            f"{n_images} embeddings for the activations of {firings.n_images} images: give one embedding per image"
        )
    length = embedding_lengths(embeddings)
    shape = (firings.n_latents, firings.n_images)
    fires = sp.csr_array((np.ones(len(firings.image)), firings.image, firings.indptr), shape=shape)
    n_fire = np.maximum(firings.n_fire, 1)[:, np.newaxis]
    mean = np.empty((firings.n_latents, d_embedding))

    def average(features: slice) -> None:
        block = embeddings[:, features] / length[:, np.newaxis]
        mean[:, features] = (fires @ (block - block.mean(axis=0))) / n_fire

    blocks = (slice(first, first + _BLOCK_FEATURES) for first in range(0, d_embedding, _BLOCK_FEATURES))
    for _ in map_blocks(average, blocks, "cpu"):
        pass  # each block writes to its own columns
    unit, lengths = _scaled_to_one(mean)
    return UnitVectors(unit, lengths > _LEAST_LENGTH)


@dataclass(frozen=True, slots=True, eq=False)
class MatchedClusters:
    """Random clusters of latents that fire about as often as the children of a family (ours).

    Latents whose number of firings lies between the same two powers of two are a stratum. A cluster has as many latents
    of every stratum as the family has children in it, drawn without replacement.

    Each stratum has its own generator, `PCG64((seed, stratum))`, which permutes the stratum's latents `n` times. A
    cluster takes the first latents of the permutations, so families with the same numbers of children share their
    clusters, and no family's numbers depend on which other families there are.

    Attributes:
        n_fire: images on which each latent fires, of those on which the pairs were chosen.
        n: number of clusters per family.
        seed: seed of the permutations.
    """

    n_fire: Int64[np.ndarray, "n_latents"]
    n: int = N_RANDOM_CLUSTERS
    seed: int = 0

    def strata(self) -> Int64[np.ndarray, "n_latents"]:
        """Stratum of every latent: `1 + floor(log2(n_fire))`, 0 for a latent that does not fire."""
        return np.frexp(self.n_fire.astype(np.float64))[1].astype(np.int64)

    def drawn(self, n_of_stratum: Int64[np.ndarray, "n_profiles n_strata"]) -> Iterator[Int64[np.ndarray, "n_members"]]:
        """For each of the `n` repeats, the members of one cluster per profile, concatenated.

        Args:
            n_of_stratum: how many latents of every stratum a cluster has, at most as many as there are.
        """
        strata = self.strata()
        permuted, start = [], np.zeros(n_of_stratum.shape[1], np.int64)
        n_before = 0
        for stratum in np.flatnonzero(n_of_stratum.any(axis=0)):
            members = np.flatnonzero(strata == stratum)
            rng = np.random.Generator(np.random.PCG64((self.seed, int(stratum))))
            permuted.append(rng.permuted(np.tile(members, (self.n, 1)), axis=1))
            start[stratum] = n_before
            n_before += len(members)
        if not permuted:
            return
        place, _ = ranges(np.tile(start, len(n_of_stratum)), n_of_stratum.ravel())
        for members in np.concatenate(permuted, axis=1):
            yield members[place]


def sibling_similarity(
    vectors: UnitVectors,
    child: Int[np.ndarray, "n_edges"],
    n_children: Int64[np.ndarray, "n_families"],
    clusters: MatchedClusters,
) -> SiblingSimilarity:
    """Mean cosine of two children of every family, and of as many latents at random that fire as often.

    Args:
        vectors: direction of every latent.
        child: children of all families, family by family.
        n_children: how many of them belong to each family.
        clusters: the random clusters.
    """
    ends = np.concatenate(([0], np.cumsum(n_children)))
    similarity = mean_cosine(vectors, child, ends)
    random, random_share = np.full(len(n_children), np.nan), np.full(len(n_children), np.nan)
    several = np.flatnonzero(~np.isnan(similarity))
    if not len(several):
        return SiblingSimilarity(similarity, random, random_share)
    strata = clusters.strata()
    family = np.repeat(np.arange(len(n_children)), n_children)
    n_strata = int(strata.max()) + 1
    counts = np.bincount(family * n_strata + strata[child], minlength=len(n_children) * n_strata)
    profiles, profile = np.unique(counts.reshape(-1, n_strata)[several], axis=0, return_inverse=True)
    cluster_ends = np.concatenate(([0], np.cumsum(profiles.sum(axis=1))))
    drawn = np.stack([mean_cosine(vectors, members, cluster_ends) for members in clusters.drawn(profiles)])
    of_family = drawn[:, profile.ravel()]
    is_defined = ~np.isnan(of_family)
    n_defined = is_defined.sum(axis=0)
    n_defined = np.where(n_defined > 0, n_defined, np.nan)
    random[several] = np.where(is_defined, of_family, 0.0).sum(axis=0) / n_defined
    random_share[several] = (of_family >= similarity[several]).sum(axis=0) / n_defined
    return SiblingSimilarity(similarity, random, random_share)


def mean_cosine(
    vectors: UnitVectors,
    members: Int[np.ndarray, "n_members"],
    ends: Int64[np.ndarray, "n_clusters+1"],
) -> Float64[np.ndarray, "n_clusters"]:
    """Mean cosine of two members of every cluster, in linear time: `(|sum u|^2 - sum |u|^2) / (k (k - 1))`.

    The members of cluster `i` are `members[ends[i]:ends[i + 1]]`, of which those without a direction are left out; NaN
    for a cluster with fewer than two others.
    """
    clusters = sp.csr_array(
        (vectors.is_known[members].astype(np.float64), members, ends), shape=(len(ends) - 1, len(vectors.unit))
    )
    clusters.sort_indices()  # equal clusters have equal sums, to the last bit
    total = clusters @ vectors.unit
    squares = clusters @ vectors.squares
    size = clusters.sum(axis=1)
    n_pairs = np.where(size > 1, size * (size - 1.0), np.nan)
    mean: Float64[np.ndarray, "n_clusters"] = (np.einsum("id,id->i", total, total) - squares) / n_pairs
    return mean


def _scaled_to_one(
    directions: Float64[np.ndarray, "n d"],
) -> tuple[Float64[np.ndarray, "n d"], Float64[np.ndarray, "n"]]:
    """Every direction divided by its length (zeros stay zeros), and the lengths."""
    length = np.sqrt(np.einsum("jd,jd->j", directions, directions))
    return directions / np.where(length > 0, length, 1.0)[:, np.newaxis], length
