"""Purity: how often two of a latent's strongest images have the same class."""

import numpy as np
from jaxtyping import Float64, Int

from hsae.hierarchy.statistics.label_sets import Labels, classes_of


def purity(
    top_images: Int[np.ndarray, "n_latents n_top"], labels: Labels, n_classes: int
) -> Float64[np.ndarray, "n_latents"]:
    """Share of the pairs of a latent's strongest images that are of one class.

    `P_j = sum_a w_a (w_a - 1) / (m (m - 1))` for `m` images of which `w_a` have class `a`. Of images of several labels,
    the pairs are those of a label of one image and a label of another (ours).

    Args:
        top_images: the strongest firing images of every latent, padded with -1.
        labels: from `checked_labels`.
        n_classes: number of classes of the taxonomy.

    Returns:
        NaN for a latent that fires on fewer than two images.
    """
    latent, place = np.nonzero(top_images >= 0)
    image, classes = classes_of(labels, top_images[latent, place])
    return _shares(latent[image], image, classes, n_classes, n_groups=len(top_images))


def null_purity(labels: Labels, n_classes: int) -> float:
    """The purity of images at random: that of all scored images; NaN if there are fewer than two.

    Args:
        labels: from `checked_labels`.
        n_classes: number of classes of the taxonomy.
    """
    n_images = labels.shape[0]
    image, classes = classes_of(labels, np.arange(n_images))
    return float(_shares(np.zeros_like(image), image, classes, n_classes, n_groups=1)[0])


def n_pure_classes(top_images: Int[np.ndarray, "n_latents n_top"], labels: Labels, n_classes: int) -> int:
    """Classes that carry purity: of which some latent has two images or more among its strongest.

    Args:
        top_images: the strongest firing images of every latent, padded with -1.
        labels: from `checked_labels`.
        n_classes: number of classes of the taxonomy.
    """
    latent, place = np.nonzero(top_images >= 0)
    image, classes = classes_of(labels, top_images[latent, place])
    cells, w = np.unique(latent[image] * n_classes + classes, return_counts=True)
    return len(np.unique(cells[w > 1] % n_classes))


def _shares(
    group: Int[np.ndarray, "n_labels"],
    image: Int[np.ndarray, "n_labels"],
    classes: Int[np.ndarray, "n_labels"],
    n_classes: int,
    *,
    n_groups: int,
) -> Float64[np.ndarray, "n_groups"]:
    """For every group, the share of the pairs of labels of two images that are the same class; counts are exact."""
    cells, w = np.unique(group * n_classes + classes, return_counts=True)
    n_same = np.zeros(n_groups, np.int64)
    np.add.at(n_same, cells // n_classes, w * (w - 1))
    _, first, n_labels = np.unique(image, return_index=True, return_counts=True)
    n_within = np.zeros(n_groups, np.int64)  # pairs of labels of one image, each with itself as well
    np.add.at(n_within, group[first], n_labels**2)
    n_pairs = np.bincount(group, minlength=n_groups).astype(np.int64) ** 2 - n_within
    return n_same / np.where(n_pairs > 0, n_pairs, np.nan)
