"""Directions of nodes in the activations: mean differences, random halves, projections and their thresholds."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64

_BLOCK_FEATURES = 64
_BLOCK_IMAGES = 4096


class ImagesUnder(NamedTuple):
    """Which images lie under which node.

    of_image: label set of every image. closure: uint8[n_sets, n_nodes], 1 if the set lies under the node.
    """

    of_image: Int64[np.ndarray, "n_images"]
    closure: "sp.csc_array[np.uint8]"

    def inside(self, node: int) -> Bool[np.ndarray, "n_images"]:
        """Whether each image lies under a node."""
        is_set = np.zeros(self.closure.shape[0], np.bool_)
        is_set[self.closure.indices[self.closure.indptr[node] : self.closure.indptr[node + 1]]] = True
        is_inside: Bool[np.ndarray, "n_images"] = is_set[self.of_image]
        return is_inside


class Threshold(NamedTuple):
    """Projection from which on an image counts as positive, and the F1 of that; both NaN where no F1 is defined."""

    value: float
    f1: float


def mean_differences(
    inputs: Float32[np.ndarray, "n_images d_model"],
    train: Int64[np.ndarray, "n_train"],
    under: ImagesUnder,
    node: Int[np.ndarray, "n_rows"],
) -> Float64[np.ndarray, "n_rows d_model"]:
    """Unit directions from the mean of the training images outside a node to the mean of those inside.

    Zeros where a node has no training image, or all of them, or where the two means are equal.
    """
    n_sets = under.closure.shape[0]
    n_of_set = np.bincount(under.of_image[train], minlength=n_sets).astype(np.float64)
    of_set = sp.csr_array(
        (np.ones(len(train)), (under.of_image[train], np.arange(len(train)))), shape=(n_sets, len(train))
    )
    inside = sp.csr_array(under.closure[:, node].T.astype(np.float64))
    n_inside = np.asarray(inside @ n_of_set)[:, np.newaxis]
    n_outside = len(train) - n_inside
    has_both = (n_inside > 0) & (n_outside > 0)
    directions = np.zeros((len(node), inputs.shape[1]))
    for first in range(0, inputs.shape[1], _BLOCK_FEATURES):
        columns = slice(first, first + _BLOCK_FEATURES)
        sums = of_set @ inputs[train, columns].astype(np.float64)
        sum_inside = inside @ sums
        differences = sum_inside / np.maximum(n_inside, 1) - (sums.sum(axis=0) - sum_inside) / np.maximum(n_outside, 1)
        directions[:, columns] = np.where(has_both, differences, 0.0)
    return unit_rows(directions)


def random_halves(
    inputs: Float32[np.ndarray, "n_images d_model"], train: Int64[np.ndarray, "n_train"], n: int, seed: int
) -> Float64[np.ndarray, "n d_model"]:
    """Unit directions from the mean of a random half of the training images to that of the others (ours).

    Like the direction of a node they lie where the activations vary, but they stand for no class. The halves are drawn
    by `PCG64((seed, 0))`.
    """
    rng = np.random.Generator(np.random.PCG64((seed, 0)))
    half = len(train) // 2
    sign = np.repeat([1.0, -1.0], [half, len(train) - half]) / np.repeat(
        [max(half, 1), max(len(train) - half, 1)], [half, len(train) - half]
    )
    weights = sp.csr_array(rng.permuted(np.tile(sign, (n, 1)), axis=1))
    directions = np.empty((n, inputs.shape[1]))
    for first in range(0, inputs.shape[1], _BLOCK_FEATURES):
        columns = slice(first, first + _BLOCK_FEATURES)
        directions[:, columns] = weights @ inputs[train, columns].astype(np.float64)
    return unit_rows(directions)


def projections(
    directions: Float64[np.ndarray, "n_rows d_model"],
    vectors: Float32[np.ndarray, "n_all d_model"],
    chosen: Int64[np.ndarray, "n"],
) -> Float64[np.ndarray, "n_rows n"]:
    """Inner products of every direction with some of the vectors, which are converted to float64 in blocks."""
    along = np.empty((len(directions), len(chosen)))
    rows = torch.from_numpy(directions)
    for first in range(0, len(chosen), _BLOCK_IMAGES):
        block = vectors[chosen[first : first + _BLOCK_IMAGES]].astype(np.float64)
        along[:, first : first + _BLOCK_IMAGES] = (rows @ torch.from_numpy(block).T).numpy()
    return along


def best_threshold(projection: Float64[np.ndarray, "n"], is_inside: Bool[np.ndarray, "n"]) -> Threshold:
    """The threshold above 0 with the best F1 for the images inside; ties: the greater threshold.

    An image counts as positive from the threshold on, so thresholds are the projections of images.
    """
    n_inside = int(is_inside.sum())
    order = np.argsort(-projection, kind="stable")
    order = order[projection[order] > 0]
    if n_inside == 0 or not len(order):
        return Threshold(np.nan, np.nan)
    value = projection[order]
    is_last = np.append(value[1:] != value[:-1], True)  # of tied projections: a threshold takes all or none
    n_right = np.cumsum(is_inside[order])
    f1 = np.where(is_last, 2.0 * n_right / (np.arange(1, len(order) + 1) + n_inside), -1.0)
    best = int(np.argmax(f1))
    return Threshold(float(value[best]), float(f1[best]))


def unit_rows(rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    """Every row divided by its length; zeros stay zeros."""
    length = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return rows / np.where(length > 0, length, 1.0)[:, np.newaxis]
