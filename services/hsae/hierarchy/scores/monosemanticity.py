"""Monosemanticity score: similarity, in a given embedding, of the images on which a latent is strong."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Float64

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.ranks import RankedActivations

_BLOCK_FEATURES = 64
"""Features of the embedding per product: a block of 50,000 images in float64 is 26 MB."""


def monosemanticity(
    ranked: RankedActivations,
    embeddings: Float[np.ndarray, "n_images d_embedding"],
    *,
    check: Callable[[], None] = go_on,
) -> Float64[np.ndarray, "n_latents"]:
    """Mean cosine similarity of all pairs of images, weighted by the latent's activations on both (arXiv 2504.02821).

    With `a_i = (z_i - min z) / (max z - min z)` over all images and unit embeddings `e_i`: `MS = sum_{n<m} a_n a_m
    <e_n, e_m> / sum_{n<m} a_n a_m`. Pairs need not be formed, because `sum_{n<m} a_n a_m <e_n, e_m> = (|sum_n a_n
    e_n|^2 - sum_n a_n^2 |e_n|^2) / 2`; the denominator is the same with 1 for `<e_n, e_m>` and `|e_n|`. The pairs of
    the strongest image are summed separately, outside that difference. This avoids cancellation if one image outweighs
    all others.

    Time is `O(n_nonzero * d_embedding)`; memory is one block of features of images and latents.

    Args:
        ranked: activations of every latent; the firing threshold is not used.
        embeddings: one row per image, of any length. A row of zeros has similarity 0 to every other row.
        check: called for every block of features; may raise to stop.

    Returns:
        A score between -1 and 1; NaN for a latent that is constant, or above its minimum on one image only.

    Raises:
        UserError: there is not one embedding per image, or one holds NaN or infinite values.
    """
    n_images, d_embedding = embeddings.shape
    if n_images != ranked.n_images:
        raise UserError(
            f"{n_images} embeddings for the activations of {ranked.n_images} images: give one embedding per image"
        )
    length = embedding_lengths(embeddings)
    weights, strongest, weight_strongest = _scaled(ranked)
    squares = sp.csr_array((weights.data**2, weights.indices, weights.indptr), shape=weights.shape)
    total: Float64[np.ndarray, "n_latents"] = weights.sum(axis=1)
    pairs = weight_strongest * total + (total**2 - squares.sum(axis=1)) / 2.0

    with_strongest, among_others = np.zeros(ranked.n_latents), np.zeros(ranked.n_latents)

    def of_features(features: slice) -> tuple[np.ndarray, np.ndarray]:
        block = embeddings[:, features] / length[:, np.newaxis]
        summed = weights @ block
        return np.einsum("jd,jd->j", summed, block[strongest]), np.einsum("jd,jd->j", summed, summed)

    blocks = (slice(first, first + _BLOCK_FEATURES) for first in range(0, d_embedding, _BLOCK_FEATURES))
    for along_strongest, squared in map_blocks(of_features, blocks, "cpu"):
        check()
        with_strongest += along_strongest
        among_others += squared
    among_others -= squares @ (length < np.inf).astype(np.float64)
    similar = weight_strongest * with_strongest + among_others / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        score: Float64[np.ndarray, "n_latents"] = np.where(pairs > 0.0, similar / pairs, np.nan)
    return score


def embedding_lengths(embeddings: Float[np.ndarray, "n_images d_embedding"]) -> Float64[np.ndarray, "n_images"]:
    """Euclidean length of every row; infinite for a row of zeros, so that division leaves it zero."""
    squares = np.einsum("id,id->i", embeddings, embeddings, dtype=np.float64)
    is_bad = ~np.isfinite(squares)
    if is_bad.any():
        raise UserError(
            f"the embeddings of {int(is_bad.sum())} images hold NaN or infinite values (the first: image "
            f"{int(np.argmax(is_bad))}): compute them again"
        )
    return np.where(squares > 0.0, np.sqrt(squares), np.inf)


def _scaled(
    ranked: RankedActivations,
) -> tuple["sp.csr_array[np.float64]", np.ndarray, Float64[np.ndarray, "n_latents"]]:
    """Min-max scaled activations without each latent's strongest image, that image, and its weight (0 if constant).

    The minimum is 0 unless a latent is above 0 on every image, so only non-zeros need a weight.
    """
    n_nonzero = np.diff(ranked.indptr)
    latent = np.repeat(np.arange(ranked.n_latents), n_nonzero)
    alive = np.flatnonzero(n_nonzero)
    activation = ranked.activation.astype(np.float64)
    least, greatest = np.zeros(ranked.n_latents), np.zeros(ranked.n_latents)
    strongest = np.zeros(ranked.n_latents, np.int64)
    if len(alive):
        first = ranked.indptr[alive]
        greatest[alive] = np.maximum.reduceat(activation, first)
        least[alive] = np.where(n_nonzero[alive] == ranked.n_images, np.minimum.reduceat(activation, first), 0.0)
    spread = greatest - least
    weight = (activation - least[latent]) / np.where(spread > 0.0, spread, np.inf)[latent]
    at_greatest = np.flatnonzero(activation == greatest[latent])
    alive, which = np.unique(latent[at_greatest], return_index=True)
    strongest[alive] = ranked.image[at_greatest[which]]
    weight[at_greatest[which]] = 0.0
    shape = (ranked.n_latents, ranked.n_images)
    return (
        sp.csr_array((weight, ranked.image, ranked.indptr), shape=shape),
        strongest,
        (spread > 0.0).astype(np.float64),
    )
