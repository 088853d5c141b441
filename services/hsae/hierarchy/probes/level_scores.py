"""Class information of a layer at every level of the taxonomy: accuracy of ridge probes and of nearest neighbours."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int, Int32, Int64

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.probes.image_parts import ProbeParts
from hsae.hierarchy.probes.nearest_neighbours import Neighbours, nearest_neighbours, vote
from hsae.hierarchy.probes.ridge_probe import ridge_probes
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels
from hsae.hierarchy.statistics.label_sets import checked_positions
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class LevelScores:
    """One row per level of the taxonomy, coarsest first; at the last level every class is a group.

    NaN for a level with one group, and for all levels without scored images.

    Attributes:
        level: depth at which the taxonomy is cut, from 1 (the root has depth 0 and is no level).
        n_groups: number of groups with images.
        n_train: number of training images, which are also the candidate neighbours.
        n_test: number of scored images.
        probe_accuracy: accuracy of the ridge probe on the scored images.
        probe_chance: accuracy of always predicting the group with the most training images.
        probe_l2: penalty of the probe, in units of the mean eigenvalue of the centred `X^T X`.
        knn_accuracy: accuracy of the vote of the nearest training images.
        nn_accuracy: accuracy of the nearest training image's group.
    """

    level: Int32[np.ndarray, "n_levels"]
    n_groups: Int32[np.ndarray, "n_levels"]
    n_train: Int32[np.ndarray, "n_levels"]
    n_test: Int32[np.ndarray, "n_levels"]
    probe_accuracy: Float64[np.ndarray, "n_levels"]
    probe_chance: Float64[np.ndarray, "n_levels"]
    probe_l2: Float64[np.ndarray, "n_levels"]
    knn_accuracy: Float64[np.ndarray, "n_levels"]
    nn_accuracy: Float64[np.ndarray, "n_levels"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def neighbours_that_vote(labels: Int[np.ndarray, "n_images"], train: Int64[np.ndarray, "n_train"], most: int) -> int:
    """Number of neighbours: at most the training images of the smallest class that has any, else they cannot win."""
    sizes = np.unique(labels[train], return_counts=True)[1]
    return min(most, int(sizes.min(initial=most)))


def level_scores(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    parts: ProbeParts,
    *,
    k: int,
    device: torch.device | None = None,
    check: Callable[[], None] = go_on,
) -> LevelScores:
    """Accuracy of ridge probes and of nearest neighbours at every level of `taxonomy_levels`.

    Every level trains on and scores the same images. The probes of all levels come from one decomposition
    (`ridge_probes`), each with its own penalty.

    The neighbours of a scored image are the `k` training images with the greatest cosine similarity, the training
    images' mean subtracted from all. They are found once and vote at every level (the evaluation of DINO, arXiv
    2104.14294, which does not centre).

    Args:
        activations: one row per image.
        labels: class of every image, a position in `taxonomy.classes`.
        taxonomy: the induced taxonomy of the data set's classes.
        parts: the images to train on and to score.
        k: number of neighbours that vote.
        device: device for the neighbours; the CPU by default.
        check: called at every penalty and every block of images; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, they and the labels do not fit the taxonomy, or `k` is
            less than 1.
    """
    labels = checked_positions(labels, len(activations), len(taxonomy.classes))
    if not np.isfinite(activations).all():
        raise UserError("the activations hold NaN or infinite values: extract them again")
    train, score = parts.train, parts.score
    classes, y = np.unique(labels, return_inverse=True)
    groups = _numbered(taxonomy_levels(taxonomy)[:, classes])
    # Each level refines the one above, so levels with equally many groups have the same groups: score them once.
    n_groups, first, which = np.unique(groups.max(axis=1, initial=-1) + 1, return_index=True, return_inverse=True)
    x_train, x_score = activations[train], activations[score]
    neighbours = _neighbours(x_train, x_score, k, device, check)
    accuracies = np.full((5, len(n_groups)), np.nan)
    defined = np.flatnonzero(n_groups > 1) if len(score) and len(train) > 1 else np.array([], np.int64)
    probes = ridge_probes(x_train, y[train], x_score, [groups[first[at]] for at in defined], check=check)
    for at, probe in zip(defined, probes, strict=True):
        of_image = groups[first[at]][y]
        of_train, of_score = of_image[train], of_image[score]
        nearest = Neighbours(neighbours.rows[:, :1], neighbours.similarity[:, :1])
        predictions = (
            probe.predicted, np.bincount(of_train).argmax(), vote(neighbours, of_train), vote(nearest, of_train)
        )  # fmt: skip
        accuracies[:4, at] = [float((predicted == of_score).mean()) for predicted in predictions]
        accuracies[4, at] = probe.penalty
    probe_accuracy, chance, knn, nearest_one, penalty = accuracies[:, which]
    n_levels = len(groups)
    return LevelScores(
        level=np.arange(1, n_levels + 1, dtype=np.int32),
        n_groups=n_groups[which].astype(np.int32),
        n_train=np.full(n_levels, len(train), np.int32),
        n_test=np.full(n_levels, len(score), np.int32),
        probe_accuracy=probe_accuracy,
        probe_chance=chance,
        probe_l2=penalty,
        knn_accuracy=knn,
        nn_accuracy=nearest_one,
    )


def _numbered(nodes: Int32[np.ndarray, "n_levels n_classes"]) -> Int64[np.ndarray, "n_levels n_classes"]:
    """The groups of every level, numbered from 0 in the order of their first classes."""
    groups = np.empty(nodes.shape, np.int64)
    for row, level in zip(groups, nodes, strict=True):
        _, first, group = np.unique(level, return_index=True, return_inverse=True)
        row[:] = np.unique(first[group], return_inverse=True)[1]
    return groups


def _neighbours(
    x_train: Float32[np.ndarray, "n_train d_model"],
    x_score: Float32[np.ndarray, "n_score d_model"],
    k: int,
    device: torch.device | None,
    check: Callable[[], None],
) -> Neighbours:
    """The nearest training images of every scored one; the training images' mean is subtracted from both."""
    mean = x_train.mean(axis=0, dtype=np.float64) if len(x_train) else 0.0
    device = torch.device("cpu") if device is None else device
    queries, references = (torch.from_numpy(part - mean).to(device) for part in (x_score, x_train))
    return nearest_neighbours(queries, references, k, check=check)
