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


def node_adjusted_f1(
    f1: Float[np.ndarray, "*shape"], n_node: Num[np.ndarray, "*#shape"], n_images: int
) -> Float64[np.ndarray, "*shape"]:
    """Adjusted F1 of a node's latent as it counts in a mean over nodes: at least 0, what always firing would give.

    Below 0 the adjusted F1 has no bound: a latent that fires on 15 of 183 images has about -330 at a node of 182, and
    that one node would decide the mean of all. Ours.

    Args:
        f1: F1 of the latents chosen for the nodes.
        n_node: number of images under each node, `n_v`.
        n_images: number of images, `N`.

    Returns:
        0 to 1; NaN for a node that holds every image or none.
    """
    return np.asarray(np.maximum(adjusted_f1(f1, n_node, n_images), 0.0))  # NaN stays NaN
