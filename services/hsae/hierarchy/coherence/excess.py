"""The coherence excess of a layer: the mean over its latents, less what classes at random places of the tree give."""

import numpy as np
from jaxtyping import Bool, Float64, Int

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.coherence.moments import MIN_CLASSES
from hsae.hierarchy.coherence.resnik import ResnikSimilarity


def coherence_excess(
    pairs: ClassPairs,
    keep: Bool[np.ndarray, "n_classes"],
    n_fire: Int[np.ndarray, "n_latents"],
) -> tuple[float, float]:
    """Coherence excess of a layer in bits, with some of the classes.

    Args:
        pairs: from `top_class_pairs` or `class_pairs_of_counts`; made once for any number of `keep`.
        keep: the classes that count; pairs with others are left out, in the latents and in the null mean, while the
            information content of nodes stays that of all classes. A class without scored images cannot be kept.
        n_fire: number of images on which each latent fires, the weights of the second mean.

    Returns:
        `mean_j T_j - mu0` with every latent that has a pair of kept classes counted once, and with such latents
        weighted by `n_fire`; NaN where no latent has one, or where fewer than 3 classes are kept.
    """
    return excess_of(pairs.coherence(keep), null_mean(pairs.resnik, keep), n_fire)


def null_mean(resnik: ResnikSimilarity, keep: Bool[np.ndarray, "n_classes"]) -> float:
    """`mu0`, the mean similarity of all pairs of kept classes; NaN if fewer than 3 classes are kept."""
    n = int(keep.sum())
    return float(resnik.row_sums(keep).sum()) / (n * (n - 1)) if n >= MIN_CLASSES else float("nan")


def excess_of(
    coherence: Float64[np.ndarray, "n_latents"], mu0: float, n_fire: Int[np.ndarray, "n_latents"]
) -> tuple[float, float]:
    """The means of `T_j - mu0` over the latents that have a `T_j`: each counted once, and weighted by `n_fire`."""
    uniform, weighted = mean_coherence(coherence, n_fire)
    return uniform - mu0, weighted - mu0


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
