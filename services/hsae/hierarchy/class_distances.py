"""Do the distances of class centroids follow the distances of the classes in the taxonomy?"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from hsae.errors import UserError
from hsae.hierarchy.controls import shuffle_taxonomy
from hsae.hierarchy.label_sets import checked_positions
from hsae.taxonomy import InducedTaxonomy

_DECIMALS = 12


@dataclass(frozen=True, slots=True)
class PathCorrelation:
    """Spearman correlation of path and centroid distance over all pairs of classes with images, and its control.

    NaN where undefined: fewer than three classes with images, or one of the distances is the same for all pairs.

    Attributes:
        n_classes: classes with images.
        cosine: with the cosine distance of the centroids, the mean of all centroids taken off; the one to quote.
        euclidean: with their Euclidean distance.
        shuffled_cosine_mean: mean of `cosine` over the shuffled taxonomies in which it is defined.
        shuffled_cosine_max: the greatest of them.
        shuffled_euclidean_mean: mean of `euclidean` over them.
        shuffled_euclidean_max: the greatest of them.
    """

    n_classes: int
    cosine: float
    euclidean: float
    shuffled_cosine_mean: float
    shuffled_cosine_max: float
    shuffled_euclidean_mean: float
    shuffled_euclidean_max: float


def path_distance_correlation(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    *,
    seed: int = 0,
    n_shuffles: int = 10,
) -> PathCorrelation:
    """Correlate the classes' distances in the taxonomy with those of their mean activations.

    Distances that differ by rounding errors only count as ties, and ties have their mid-rank. A centroid that is the
    mean of all has no direction; its cosine distance to any other is 1.

    Args:
        activations: one row per image.
        labels: class of every image, a position in `taxonomy.classes`.
        taxonomy: the induced taxonomy of the data set's classes.
        seed: of the first shuffle; the next has `seed + 1`. A shuffle is that of `shuffle_taxonomy`.
        n_shuffles: how often the classes are permuted over the tree.

    Raises:
        UserError: the activations hold NaN or infinite values, or they and the labels do not fit the taxonomy.
    """
    n_classes = len(taxonomy.classes)
    labels = checked_positions(labels, len(activations), n_classes)
    if not np.isfinite(activations).all():
        raise UserError("the activations hold NaN or infinite values: extract them again")
    classes = np.unique(labels)
    paths = path_distances(taxonomy)
    centred = _centred_centroids(activations, labels)
    by_metric = {"cosine": _cosine_distances(centred), "euclidean": pdist(centred)}
    places = [classes, *(shuffle_taxonomy(classes, n_classes, seed + shuffle) for shuffle in range(n_shuffles))]
    scores = {
        metric: np.array([_spearman(squareform(paths[np.ix_(place, place)]), distances) for place in places])
        for metric, distances in by_metric.items()
    }
    columns = {metric: float(values[0]) for metric, values in scores.items()}
    for metric, values in scores.items():
        defined = values[1:][~np.isnan(values[1:])]
        columns[f"shuffled_{metric}_mean"] = float(defined.mean()) if len(defined) else float("nan")
        columns[f"shuffled_{metric}_max"] = float(defined.max()) if len(defined) else float("nan")
    return PathCorrelation(n_classes=len(classes), **columns)


def path_distances(taxonomy: InducedTaxonomy) -> Float64[np.ndarray, "n_classes n_classes"]:
    """Edges on the shortest path between two classes through hypernym edges, taken upwards or downwards.

    The path may turn at a common hyponym as well as at a common hypernym (ours; NLTK's turns at a hypernym only).
    """
    child, parent = taxonomy.hypernym_edges.T
    n_nodes = len(taxonomy.synsets)
    edges = sp.csr_array((np.ones(len(child)), (child, parent)), shape=(n_nodes, n_nodes))
    lengths = shortest_path(edges, method="D", directed=False, unweighted=True, indices=taxonomy.classes)
    distances: Float64[np.ndarray, "n_classes n_classes"] = lengths[:, taxonomy.classes]
    return distances


def _centred_centroids(
    activations: Float32[np.ndarray, "n_images d_model"], labels: Int[np.ndarray, "n_images"]
) -> Float64[np.ndarray, "n_classes d_model"]:
    """Mean activations of the classes with images, less the mean of these means."""
    _, y, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    members = sp.csr_array((np.ones(len(y)), (y, np.arange(len(y)))), shape=(len(sizes), len(y)))
    centroids = np.asarray(members @ activations.astype(np.float64)) / sizes[:, np.newaxis]
    centred: Float64[np.ndarray, "n_classes d_model"] = centroids - centroids.sum(axis=0) / max(1, len(sizes))
    # What rounding leaves of a centroid that is the mean of all must not be taken for a direction.
    least = 10.0**-_DECIMALS * np.linalg.norm(centroids, axis=1).max(initial=0.0)
    centred[np.linalg.norm(centred, axis=1) <= least] = 0.0
    return centred


def _cosine_distances(centroids: Float64[np.ndarray, "n_classes d_model"]) -> Float64[np.ndarray, "n_pairs"]:
    length = np.linalg.norm(centroids, axis=1, keepdims=True)
    unit = centroids / np.where(length > 0.0, length, 1.0)
    distances: Float64[np.ndarray, "n_pairs"] = 1.0 - (unit @ unit.T)[np.triu_indices(len(unit), k=1)]
    return distances


def _spearman(paths: Float64[np.ndarray, "n_pairs"], distances: Float64[np.ndarray, "n_pairs"]) -> float:
    if len(paths) < 3:  # three pairs: three classes
        return float("nan")
    scale = distances.max()
    rounded = np.round(distances / (scale if scale > 0 else 1.0), _DECIMALS)
    if np.ptp(paths) == 0 or np.ptp(rounded) == 0:
        return float("nan")
    return float(spearmanr(paths, rounded).statistic)
