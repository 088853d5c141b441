"""What an analysis takes on two processor cores, and of memory, estimated before anything is computed.

The time decides where it runs; the memory is what its worker must be given.
"""

from hsae.hierarchy.config import ScoringConfig
from hsae.vocabulary.bases import ControlBasis

_PER_PRODUCT = 1.5e-11
"""Seconds per product of a direction's coordinate with an image's."""
_PER_VALUE = 6e-9
"""Seconds per image and column: thresholds, what fires, its ranks and sums."""
_PER_COLUMN = 2e-4
"""Seconds per column of every basis, however many images: scores with all nodes, resampled numbers."""
_CLUSTERING_PRODUCTS = 640
"""Of k-means, per image and cluster: ten rounds in 64 dimensions."""

_MEMORY_AT_REST = 650_000_000
"""Bytes of a worker's task with its libraries, WordNet and a small analysis."""
_PER_LATENT, _PER_COORDINATE, _PER_FIRING = 49_000, 17, 90
"""Bytes: of a latent, of a coordinate of an image's activation (four copies), of a latent that fires on an image."""


def memory_bytes(n_images: int, n_latents: int, l0: float, d_model: int) -> int:
    """Bytes of memory of an analysis with all of its controls, the libraries among them.

    A rough estimate (ours), within a fifth of the peaks of ten runs of `benchmarks/hierarchy/controls.py`: 20,000 to
    160,145 images, 2,048 to 12,288 latents, L0 16 and 64, 192 and 768 dimensions. It is within 3 % of the two largest.

    Args:
        n_images: images, those that train among them.
        n_latents: latents of the SAE.
        l0: latents that fire on an image.
        d_model: width of what the SAE was given.
    """
    of_image = _PER_COORDINATE * d_model + _PER_FIRING * l0
    return round(_MEMORY_AT_REST + n_latents * _PER_LATENT + n_images * of_image)


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
