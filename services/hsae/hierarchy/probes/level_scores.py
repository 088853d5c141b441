"""Class information of a layer at every level of the taxonomy: linear-probe and k-NN accuracy."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int32, Int64

from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.probes.linear_probe import ProbeImages, split_images, train_probe
from hsae.hierarchy.probes.nearest_neighbours import Neighbours, nearest_neighbours, vote
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels
from hsae.hierarchy.statistics.label_sets import checked_positions
from hsae.taxonomy import InducedTaxonomy


@dataclass(frozen=True, slots=True, eq=False)
class LevelScores:
    """One row per level of the taxonomy, coarsest first; at the last level every class is a group.

    NaN for a level with one group, and for all levels without test images.

    Attributes:
        level: depth at which the taxonomy is cut, from 1 (the root has depth 0 and is no level).
        n_groups: number of groups with images.
        n_train: number of training images, which are also the candidate neighbours.
        n_test: number of test images.
        probe_accuracy: accuracy of the linear probe on the test images.
        probe_chance: accuracy of always predicting the group with the most training images.
        probe_l2: penalty of the probe.
        knn_accuracy: accuracy of the vote of the nearest training images.
    """

    level: Int32[np.ndarray, "n_levels"]
    n_groups: Int32[np.ndarray, "n_levels"]
    n_train: Int32[np.ndarray, "n_levels"]
    n_test: Int32[np.ndarray, "n_levels"]
    probe_accuracy: Float64[np.ndarray, "n_levels"]
    probe_chance: Float64[np.ndarray, "n_levels"]
    probe_l2: Float64[np.ndarray, "n_levels"]
    knn_accuracy: Float64[np.ndarray, "n_levels"]

    def columns(self) -> dict[str, np.ndarray]:
        """Name and values of every column, in a fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def level_scores(
    activations: Float32[np.ndarray, "n_images d_model"],
    labels: Int[np.ndarray, "n_images"],
    taxonomy: InducedTaxonomy,
    *,
    seed: int = 0,
    k: int = 20,
    device: torch.device | None = None,
    check: Callable[[], None] = go_on,
) -> LevelScores:
    """Linear-probe and k-NN accuracy at every level of `taxonomy_levels`.

    The images are split once, by class, so every level tests the same images. The probe of the last row equals
    `linear_probe(activations, labels, seed=seed)` to the bit. The penalty is chosen for the classes and used at every
    level (ours): a search at each level changes accuracies by at most a point, in four times the time.

    The neighbours of a test image are the `k` training images with the greatest cosine similarity of the raw
    activations, neither centred nor scaled. They are found once and vote at every level (the evaluation of DINO, arXiv
    2104.14294).

    Args:
        activations: one row per image.
        labels: class of every image, a position in `taxonomy.classes`.
        taxonomy: the induced taxonomy of the data set's classes.
        seed: seed of the split.
        k: number of neighbours that vote.
        device: device for the computation; the CPU by default.
        check: called at every step of the optimiser and every block of neighbours; may raise to stop.

    Raises:
        UserError: the activations hold NaN or infinite values, they and the labels do not fit the taxonomy, or `k` is
            less than 1.
    """
    labels = checked_positions(labels, len(activations), len(taxonomy.classes))
    classes, y = np.unique(labels, return_inverse=True)
    images = split_images(activations, y, seed=seed, device=device)
    groups = _numbered(taxonomy_levels(taxonomy)[:, classes])
    neighbours = _neighbours_of_tests(activations, images, k, check)

    # Each level refines the one above, so levels with equally many groups have the same groups: score them once.
    n_groups, first, which = np.unique(groups.max(axis=1, initial=-1) + 1, return_index=True, return_inverse=True)
    distinct = [groups[row][y] for row in first]
    of_classes = train_probe(images, distinct[-1], int(n_groups[-1]), check=check)
    coarser = zip(distinct[:-1], n_groups[:-1], strict=True)
    probes = [train_probe(images, group, int(n), l2=of_classes.l2, check=check) for group, n in coarser]
    probes.append(of_classes)
    knn_accuracy = [_knn_accuracy(neighbours, group, images.is_test) for group in distinct]
    n_levels = len(groups)
    return LevelScores(
        level=np.arange(1, n_levels + 1, dtype=np.int32),
        n_groups=n_groups[which].astype(np.int32),
        n_train=np.full(n_levels, (~images.is_test).sum(), np.int32),
        n_test=np.full(n_levels, images.is_test.sum(), np.int32),
        probe_accuracy=np.array([probe.accuracy for probe in probes])[which],
        probe_chance=np.array([probe.chance for probe in probes])[which],
        probe_l2=np.array([probe.l2 for probe in probes])[which],
        knn_accuracy=np.array(knn_accuracy)[which],
    )


def _numbered(nodes: Int32[np.ndarray, "n_levels n_classes"]) -> Int64[np.ndarray, "n_levels n_classes"]:
    """The groups of every level, numbered from 0 in the order of their first classes."""
    groups = np.empty(nodes.shape, np.int64)
    for row, level in zip(groups, nodes, strict=True):
        _, first, group = np.unique(level, return_index=True, return_inverse=True)
        row[:] = np.unique(first[group], return_inverse=True)[1]
    return groups


def _neighbours_of_tests(
    activations: Float32[np.ndarray, "n_images d_model"], images: ProbeImages, k: int, check: Callable[[], None]
) -> Neighbours:
    device = images.train.device
    x_test, x_train = (
        torch.from_numpy(np.asarray(activations[mask], np.float32)).to(device)
        for mask in (images.is_test, ~images.is_test)
    )
    return nearest_neighbours(x_test, x_train, k, check=check)


def _knn_accuracy(
    neighbours: Neighbours, y: Int64[np.ndarray, "n_images"], is_test: Bool[np.ndarray, "n_images"]
) -> float:
    if not is_test.any() or not y.any():
        return float("nan")
    return float((vote(neighbours, y[~is_test]) == y[is_test]).mean())
