"""Shuffled labels and taxonomies: the same activations, scored against what means nothing."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from hsae.hierarchy.statistics.label_sets import Labels


def shuffle_labels(labels: Labels, seed: int | Sequence[int]) -> Labels:
    """Permute the images' labels: class sizes stay, and labels no longer depend on what an image shows.

    Labels of one image stay together.
    """
    order = np.random.Generator(np.random.PCG64(seed)).permutation(labels.shape[0])
    return labels[order]


def shuffle_taxonomy(labels: Labels, n_classes: int, seed: int) -> Labels:
    """Permute the classes over the tree: a class keeps its images and gets random neighbours.

    To move class `l` to the position of class `pi(l)` in the tree is the same as to relabel its images `pi(l)`: nodes,
    closure, heights and hypernyms stay, and every inner node has as many classes as before.
    """
    places = np.random.Generator(np.random.PCG64(seed)).permutation(n_classes)
    if not sp.issparse(labels):
        return np.take(places, labels)
    moved = sp.csr_array((labels.data, places[labels.indices], labels.indptr), shape=labels.shape)
    moved.sort_indices()
    return moved
