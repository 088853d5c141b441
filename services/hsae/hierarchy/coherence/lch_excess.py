"""LCH excess: how much smaller the lowest common hypernym of a latent's classes is than that of classes at random."""

import numpy as np
from jaxtyping import Float64, Int, Int32

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.statistics.lowest_hypernyms import LowestHypernyms

MIN_FIRED = 16
"""A latent is eligible if it fires on as many images as represent it."""


def expected_lch_bits(
    hypernyms: LowestHypernyms, draws: Int32[np.ndarray, "n_draws n"]
) -> Float64[np.ndarray, " n_sizes"]:
    """`E_K[log2 |L_LCH|]` of `K` classes at random; entry `K - 1`.

    Args:
        hypernyms: of the taxonomy.
        draws: classes at random; the first `K` of a row are a draw of `K` classes.
    """
    return np.asarray(hypernyms.log_classes[hypernyms.of_prefixes(draws)].mean(axis=0))


def lch_excess(
    pairs: ClassPairs,
    n_fire: Int[np.ndarray, "n_latents"],
    hypernyms: LowestHypernyms,
    expected: Float64[np.ndarray, " n_sizes"],
) -> Float64[np.ndarray, "n_latents"]:
    """`g_j = E_K[log2 |L_LCH|] - log2 |L_lch(j)|` in bits, positive where the latent's classes are closer than chance.

    `lch(j)` is the lowest common hypernym of the `K` classes of the latent's strongest images (rule `topk`). Ours; the
    same correction of the logarithm of ontological coverage is the same number.

    Args:
        pairs: the latents with two classes or more.
        n_fire: number of images on which each latent fires.
        hypernyms: of the taxonomy.
        expected: from `expected_lch_bits`.

    Returns:
        NaN for a latent of fewer than 2 classes, or that fires on fewer than 16 images.
    """
    values = np.full(pairs.n_latents, np.nan)
    for block in pairs.blocks:
        is_eligible = n_fire[block.latents] >= MIN_FIRED
        classes = block.classes[is_eligible]
        n = classes.shape[1]
        lowest = hypernyms.of_sets(np.arange(len(classes) + 1) * n, classes.ravel())
        values[block.latents[is_eligible]] = expected[n - 1] - hypernyms.log_classes[lowest]
    return values
