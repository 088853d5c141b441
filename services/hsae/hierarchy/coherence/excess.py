"""The coherence excess of a layer: the mean over its latents, less what classes at random places of the tree give."""

import numpy as np
from jaxtyping import Bool, Float64, Int

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.coherence.moments import pair_moments


def coherence_excess(
    pairs: ClassPairs,
    keep: Bool[np.ndarray, "n_classes"],
    n_fire: Int[np.ndarray, "n_latents"],
) -> tuple[float, float]:
    """Coherence excess of a layer in bits, with some of the classes.

    Args:
        pairs: from `top_class_pairs` or `counted_class_pairs`; made once for any number of `keep`.
        keep: the classes that count; pairs with others are left out, in the latents and in the null mean, while the
            information content of nodes stays that of all classes. A class without scored images cannot be kept.
        n_fire: number of images on which each latent fires, the weights of the second mean.

    Returns:
        `mean_j T_j - mu0` with every latent that has a pair of kept classes counted once, and with such latents
        weighted by `n_fire`; NaN where no latent has one, or where fewer than 3 classes are kept.
    """
    mean = pair_moments(pairs.resnik, keep).mean
    uniform, weighted = mean_coherence(pairs.coherence(keep), n_fire)
    return uniform - mean, weighted - mean


def mean_coherence(
    coherence: Float64[np.ndarray, "n_latents"], n_fire: Int[np.ndarray, "n_latents"]
) -> tuple[float, float]:
    """The means of `T_j` over the latents that have one: each counted once, and weighted by `n_fire`."""
    has_pair = np.isfinite(coherence)
    if not has_pair.any():
        return float("nan"), float("nan")
    values, weights = coherence[has_pair], n_fire[has_pair].astype(np.float64)
    total = float(weights.sum())  # sums of products, not BLAS: the same bits whatever the number of threads
    weighted = float((values * weights).sum()) / total if total > 0 else float("nan")
    return float(values.mean()), weighted
