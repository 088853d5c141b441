"""One-sided p-values of single latents, by classes at random places of the tree."""

import numpy as np
from jaxtyping import Float64, Int32

from hsae.hierarchy.coherence.class_pairs import ClassPairs

ROUNDING = 1e-9
"""Two sums of the same similarities in another order count as equal."""

_BLOCK_CELLS = 1 << 22


def latent_p(
    pairs: ClassPairs, coherence: Float64[np.ndarray, "n_latents"], draws: Int32[np.ndarray, "n_draws n"]
) -> Float64[np.ndarray, "n_latents"]:
    """P(coherence is at least `T_j`) when the latent's classes move to random places of the tree.

    `(1 + #{T >= T_j}) / (1 + n_draws)`: the null is skewed, so that the z-score gives no p-value. The draws are the
    same for all latents, and latents with the same numbers of images by class share their null distribution; the least
    p is `1 / (1 + n_draws)`, 1e-4 by default. The p-values of an analysis are therefore not independent.

    Args:
        pairs: the pairs of the latents.
        coherence: `T_j` of every latent.
        draws: classes at random, at least as many in a draw as a latent has.

    Returns:
        NaN for a latent without a pair.
    """
    p = np.full(pairs.n_latents, np.nan)
    for block in pairs.blocks:
        has_pair = np.isfinite(coherence[block.latents])
        latents = block.latents[has_pair]
        weights, profile = np.unique(block.weight[has_pair], axis=0, return_inverse=True)
        share = weights / weights.sum(axis=1, keepdims=True, dtype=np.int64)
        rows_of = np.split(np.argsort(profile, kind="stable"), np.cumsum(np.bincount(profile, minlength=len(weights))))
        left, right = block.pairs()
        n_reached = np.zeros(len(latents), np.int64)
        height = max(1, _BLOCK_CELLS // max(len(latents), len(left)))
        for first in range(0, len(draws), height):
            drawn = draws[first : first + height]
            null = share @ pairs.resnik.of(drawn[:, left], drawn[:, right]).T  # [n_profiles, n_drawn]
            for values, rows in zip(null, rows_of, strict=False):
                n_reached[rows] += (values >= coherence[latents[rows], np.newaxis] - ROUNDING).sum(axis=1)
        p[latents] = (1 + n_reached) / (1 + len(draws))
    return p
