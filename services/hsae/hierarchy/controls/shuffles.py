"""Shuffled labels and taxonomies: the same activations, scored against what means nothing."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Int64

from hsae.hierarchy.statistics.label_sets import Labels


def shuffle_labels(labels: Labels, seed: int | Sequence[int]) -> Labels:
    """Permute the images' labels: class sizes stay, and labels no longer depend on what an image shows.

    Labels of one image stay together.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(labels.shape[0])
    return labels[order]


def class_places(present: Bool[np.ndarray, "n_classes"], seed: int) -> Int64[np.ndarray, "n_classes"]:
    """The place in the tree that every class gets: the classes present are permuted over their own places.

    So every node keeps its number of classes that have images, and a node that counts among the distinct inner nodes
    does so under every permutation. Classes without images stay.

    Args:
        present: which classes have scored images.
        seed: seed of NumPy's `Generator(PCG64(seed))`.
    """
    places = np.arange(len(present))
    chosen = np.flatnonzero(present)
    places[chosen] = np.random.Generator(np.random.PCG64(seed)).permutation(chosen)
    return places


def shuffle_taxonomy(labels: Labels, n_classes: int, seed: int, *, scored: Labels | None = None) -> Labels:
    """Permute the classes over the tree: a class keeps its images and gets random neighbours.

    To move class `l` to the position of class `pi(l)` in the tree is the same as to relabel its images `pi(l)`: nodes,
    closure, heights and hypernyms stay, and every node has as many classes with images as before (`class_places`).

    Args:
        labels: from `checked_labels`.
        n_classes: number of classes of the taxonomy.
        seed: of the permutation.
        scored: the labels of the images that are scored, whose classes are permuted; None: those of all.
    """
    of_scored = labels if scored is None else scored
    present = np.zeros(n_classes, np.bool_)
    present[of_scored.indices if sp.issparse(of_scored) else of_scored] = True
    places = class_places(present, seed)
    if not sp.issparse(labels):
        return np.take(places, labels)
    moved = sp.csr_array((labels.data, places[labels.indices], labels.indptr), shape=labels.shape)
    moved.sort_indices()
    return moved
