"""LCH excess: how much smaller the lowest common hypernym of a latent's classes is than that of classes at random."""

import numpy as np
from jaxtyping import Float64, Int, Int32

from hsae.taxonomy import InducedTaxonomy

MIN_FIRED = 16
"""A latent is eligible if it fires on as many images as represent it."""

_BLOCK_BYTES = 1 << 24


def expected_lch_bits(
    taxonomy: InducedTaxonomy, draws: Int32[np.ndarray, "n_draws n"]
) -> Float64[np.ndarray, " n_sizes"]:
    """`E_K[log2 |L_LCH|]` for classes at random, by their number `K`; NaN for 0, and 0 for 1.

    `LCH` is the lowest common hypernym (`InducedTaxonomy.lch`), `L_v` the classes at or under a node.

    Args:
        taxonomy: the induced taxonomy of the classes.
        draws: classes at random; the first `K` of a row are a draw of `K` classes.
    """
    n_nodes = len(taxonomy.synsets)
    order = np.lexsort((np.arange(n_nodes), taxonomy.leaf_counts, taxonomy.height))  # as `InducedTaxonomy.lch` prefers
    closure = taxonomy.closure[:, order]
    step = max(1, _BLOCK_BYTES // n_nodes)
    packed = [np.packbits(closure[at : at + step].toarray(), axis=1) for at in range(0, closure.shape[0], step)]
    is_under = np.concatenate(packed)  # [n_classes, n_nodes / 8]
    bits = np.log2(taxonomy.leaf_counts[order])
    sums = np.zeros(draws.shape[1] + 1)
    height = max(1, _BLOCK_BYTES // is_under.shape[1])
    for first in range(0, len(draws), height):
        drawn = draws[first : first + height]
        common = np.full((len(drawn), is_under.shape[1]), 255, np.uint8)
        for k in range(draws.shape[1]):
            common &= is_under[drawn[:, k]]
            byte = (common != 0).argmax(axis=1)  # the root is common to all
            inside = np.unpackbits(common[np.arange(len(drawn)), byte][:, np.newaxis], axis=1).argmax(axis=1)
            sums[k + 1] += bits[8 * byte + inside].sum()
    sums[0] = np.nan
    return sums / len(draws)


def lch_excess(
    lch: Int[np.ndarray, "n_latents"],
    n_associated: Int[np.ndarray, "n_latents"],
    n_fire: Int[np.ndarray, "n_latents"],
    expected: Float64[np.ndarray, " n_sizes"],
    taxonomy: InducedTaxonomy,
) -> Float64[np.ndarray, "n_latents"]:
    """`g_j = E_K[log2 |L_LCH|] - log2 |L_lch(j)|` in bits, positive where the latent's classes are closer than chance.

    Args:
        lch: lowest common hypernym of the classes of the latent's strongest images, -1 without any.
        n_associated: number `K` of these classes.
        n_fire: number of images on which the latent fires.
        expected: from `expected_lch_bits`; NaN where there is nothing to compare with.
        taxonomy: the induced taxonomy.

    Returns:
        NaN for a latent of fewer than 2 classes, or that fires on fewer than 16 images.
    """
    is_eligible = (n_associated >= 2) & (n_fire >= MIN_FIRED)
    values = np.full(len(lch), np.nan)
    found = lch[is_eligible]
    values[is_eligible] = expected[n_associated[is_eligible]] - np.log2(taxonomy.leaf_counts[found])
    return values
