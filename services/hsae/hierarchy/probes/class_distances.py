"""Correlation of the distances of class centroids with the distances of the classes in the taxonomy.

10,000 classes have 50 million pairs: they are ranked once, and every shuffle iterates over them class by class.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int, UInt16
from scipy.sparse.csgraph import shortest_path
from scipy.stats import rankdata

from hsae.errors import UserError
from hsae.hierarchy.controls.shuffles import shuffle_taxonomy
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.statistics.label_sets import checked_positions
from hsae.taxonomy import InducedTaxonomy

_DECIMALS = 12
_BLOCK_CLASSES = 256


@dataclass(frozen=True, slots=True)
class PathCorrelation:
    """Spearman correlation of path and centroid distance over all pairs of classes with images, and its control.

    NaN with fewer than three classes with images, or if one of the distances is the same for all pairs.

    Attributes:
        n_classes: number of classes with images.
        cosine: correlation with the cosine distance of the centroids, after the mean of all centroids is subtracted.
        shuffled_cosine_mean: mean of `cosine` over the shuffled taxonomies for which it is defined.
        shuffled_cosine_sd: their standard deviation (over `n - 1`); NaN with fewer than two.
        shuffled_cosine_max: the maximum over them.
    """

    n_classes: int
    cosine: float
    shuffled_cosine_mean: float
    shuffled_cosine_sd: float
    shuffled_cosine_max: float


def path_distance_correlation(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    *,
    seed: int = 0,
    n_shuffles: int,
    check: Callable[[], None] = go_on,
) -> PathCorrelation:
    """Correlate the classes' distances in the taxonomy with those of their mean activations.

    Distances that differ only by rounding errors tie, and ties get their mid-rank. A centroid that equals the mean of
    all centroids has no direction; its cosine distance to every other is 1.

    Args:
        activations: one row per image.
        labels: class of every image, a position in `taxonomy.classes`.
        taxonomy: the induced taxonomy of the data set's classes.
        seed: seed of the first shuffle; the next has `seed + 1`. A shuffle is that of `shuffle_taxonomy`.
        n_shuffles: number of permutations of the classes over the tree.
        check: called for every block of classes and every shuffle; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, or they and the labels do not fit the taxonomy.
    """
    n_classes = len(taxonomy.classes)
    labels = checked_positions(labels, len(activations), n_classes)
    if not np.isfinite(activations).all():
        raise UserError("the activations hold NaN or infinite values: extract them again")
    classes = np.unique(labels)
    if len(classes) < 3:
        return PathCorrelation(len(classes), *(float("nan"),) * 4)
    paths = path_distances(taxonomy, check)
    rank = rankdata(_cosine_distances(_centred_centroids(activations, labels), check))
    rank -= rank.mean()
    cosine = _spearman(paths, classes, rank)
    shuffled = []
    for shuffle in range(n_shuffles):
        check()
        places = np.asarray(shuffle_taxonomy(classes, n_classes, seed + shuffle))
        shuffled.append(_spearman(paths, places, rank))
    defined = [value for value in shuffled if not np.isnan(value)] or [float("nan")]
    spread = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
    return PathCorrelation(len(classes), cosine, float(np.mean(defined)), spread, max(defined))


def path_distances(
    taxonomy: InducedTaxonomy, check: Callable[[], None] = go_on
) -> UInt16[np.ndarray, "n_classes n_classes"]:
    """Edges on the shortest path between two classes through hypernym edges, taken upwards or downwards.

    The path may turn at a common hyponym as well as at a common hypernym (ours; NLTK's turns at a hypernym only).
    """
    child, parent = taxonomy.hypernym_edges.T
    n_nodes, classes = len(taxonomy.synsets), taxonomy.classes
    edges = sp.csr_array((np.ones(len(child)), (child, parent)), shape=(n_nodes, n_nodes))
    distances = np.empty((len(classes), len(classes)), np.uint16)
    for first in range(0, len(classes), _BLOCK_CLASSES):
        check()
        rows = slice(first, first + _BLOCK_CLASSES)
        lengths = shortest_path(edges, method="D", directed=False, unweighted=True, indices=classes[rows])
        distances[rows] = lengths[:, classes]
    return distances


def _centred_centroids(
    activations: Float32[np.ndarray, "n_images d_model"], labels: Int[np.ndarray, "n_images"]
) -> Float64[np.ndarray, "n_classes d_model"]:
    """Mean activations of the classes with images, minus the mean of these means."""
    _, y, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    members = sp.csr_array((np.ones(len(y)), (y, np.arange(len(y)))), shape=(len(sizes), len(y)))
    centroids = np.asarray(members @ activations.astype(np.float64)) / sizes[:, np.newaxis]
    centred: Float64[np.ndarray, "n_classes d_model"] = centroids - centroids.sum(axis=0) / max(1, len(sizes))
    # A centroid that equals the mean leaves only rounding errors, which must not count as a direction.
    least = 10.0**-_DECIMALS * np.linalg.norm(centroids, axis=1).max(initial=0.0)
    centred[np.linalg.norm(centred, axis=1) <= least] = 0.0
    return centred


def _cosine_distances(
    centroids: Float64[np.ndarray, "n_classes d_model"], check: Callable[[], None]
) -> Float64[np.ndarray, "n_pairs"]:
    """Distances of all pairs `i < j`, ordered by `i`, then `j`; rounded, so that rounding errors do not break ties."""
    length = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit = centroids / np.where(length > 0.0, length, 1.0)
    n_classes = len(unit)
    distances = np.empty(n_classes * (n_classes - 1) // 2)
    end = 0
    for first in range(0, n_classes, _BLOCK_CLASSES):
        check()
        cosines = unit[first : first + _BLOCK_CLASSES] @ unit.T
        for i, row in enumerate(cosines, start=first):
            start, end = end, end + n_classes - 1 - i
            distances[start:end] = 1.0 - row[i + 1 :]
    scale = distances.max()
    distances /= scale if scale > 0 else 1.0
    return np.round(distances, _DECIMALS, out=distances)


def _spearman(
    paths: UInt16[np.ndarray, "n_classes n_classes"],
    places: Int[np.ndarray, "n_present"],
    rank: Float64[np.ndarray, "n_pairs"],
) -> float:
    """Correlation of centred distance ranks with the mid-ranks of the path lengths between the classes' positions.

    Path lengths take few values: their mid-ranks follow from the number of pairs with each length, and the product from
    the sum of these pairs' ranks.
    """
    lengths = np.concatenate([paths[place, places[i + 1 :]] for i, place in enumerate(places)])
    n_pairs = np.bincount(lengths)
    path_rank = np.cumsum(n_pairs) - (n_pairs - 1) / 2.0 - (len(rank) + 1) / 2.0
    product = float((path_rank * np.bincount(lengths, weights=rank)).sum())
    norm = float(np.sqrt((n_pairs * path_rank**2).sum() * (rank @ rank)))
    return float(np.clip(product / norm, -1.0, 1.0)) if norm > 0 else float("nan")
