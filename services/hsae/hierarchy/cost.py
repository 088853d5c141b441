"""What an analysis takes on two processor cores, estimated before anything is computed: it decides where it runs."""

from hsae.hierarchy.config import ControlBasis, ScoringConfig

_PER_PRODUCT = 1.5e-11
"""Seconds per product of a direction's coordinate with an image's."""
_PER_VALUE = 6e-9
"""Seconds per image and column: thresholds, what fires, its ranks and sums."""
_PER_COLUMN = 2e-4
"""Seconds per column of every basis, however many images: scores with all nodes, resampled numbers."""
_CLUSTERING_PRODUCTS = 640
"""Of k-means, per image and cluster: ten rounds in 64 dimensions."""


def cpu_seconds(scoring: ScoringConfig, n_images: int, n_latents: int, d_model: int) -> float:
    """Seconds of an analysis with its controls, for two cores of a server.

    A rough estimate (ours), from processor seconds of `benchmarks/hierarchy/controls.py` at a part of its images. It
    says which analyses are big, not when one will be done.

    Args:
        scoring: which controls and shuffles there are.
        n_images: images that select and score.
        n_latents: latents of the SAE.
        d_model: width of what the SAE was given.
    """
    n_columns: dict[ControlBasis, int] = {"neuron": 2 * d_model, "pca": 2 * d_model}
    n_products: dict[ControlBasis, int] = {  # per image
        "neuron": 0,
        "pca": d_model * d_model,
        "random": n_latents // 2 * d_model,
        "untrained": 0,
        "kmeans": n_latents * (d_model + _CLUSTERING_PRODUCTS),
    }
    columns, products = n_latents * (1 + 2 * scoring.n_shuffles), 0
    for basis in scoring.controls:
        draws = scoring.n_random if basis == "random" else 1
        columns += draws * n_columns.get(basis, n_latents)
        products += draws * n_products.get(basis, n_latents * d_model)
    return n_images * (products * _PER_PRODUCT + columns * _PER_VALUE) + columns * _PER_COLUMN
