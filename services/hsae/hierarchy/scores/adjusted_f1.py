"""F1 corrected for what a detector that always fires gets, so that it means the same for every size of node."""

import numpy as np
from jaxtyping import Float, Float64, Num


def adjusted_f1(
    f1: Float[np.ndarray, "*shape"], n_node: Num[np.ndarray, "*#shape"], n_images: int
) -> Float64[np.ndarray, "*shape"]:
    """`(F1 - F0) / (1 - F0)` with `F0 = 2 pi / (1 + pi)` and `pi = n_v / N`: 0 for always firing, 1 for a perfect F1.

    `F0` is the F1 of a detector that fires on every image. Ours.

    Args:
        f1: F1 of pairs of latent and node; NaN stays NaN.
        n_node: number of images under each node, `n_v`.
        n_images: number of images, `N`.

    Returns:
        NaN for a node that holds every image or none.
    """
    share = np.asarray(n_node, np.float64) / n_images
    always = 2.0 * share / (1.0 + share)
    is_open = (share > 0.0) & (share < 1.0)
    return np.where(is_open, (f1 - always) / np.where(is_open, 1.0 - always, 1.0), np.nan)
