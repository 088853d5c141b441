"""Class-mean differences: the direction that the labels themselves name, as a ceiling."""

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int64

from hsae.hierarchy.controls.bases.baseline import Baseline
from hsae.hierarchy.controls.bases.columns import LinearColumns
from hsae.hierarchy.controls.bases.exemplar import unit
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets
from hsae.vocabulary.bases import ControlBasis

_BLOCK_ROWS = 4096


class ClassMean(Baseline):
    """Projections on the difference of mean activation inside and outside of every node, over the train images.

    It reads the labels: it is a ceiling for what linear columns at these densities can know, not a baseline. There is
    one column for every distinct set of train images that a node has, except for none and all.
    """

    name: ClassVar[ControlBasis] = "class_mean"
    is_ceiling: ClassVar[bool] = True

    @staticmethod
    def columns(given: BaselineInputs, seed: int) -> LinearColumns:
        """Columns in the order of the nodes; the node with most train images is the densest."""
        del seed
        directions, n_images = node_directions(given)
        return LinearColumns(given.centred, unit(given, directions), np.argsort(-n_images, kind="stable"))


def node_directions(
    given: BaselineInputs,
) -> tuple[Float64[np.ndarray, "n_columns d_model"], Int64[np.ndarray, "n_columns"]]:
    """The difference of means of every node (float64), and the node's number of train images."""
    taxonomy, n_labelled = given.taxonomy, int(given.labels.shape[0])
    train = given.train_images[given.train_images < n_labelled]  # others are of classes that the taxonomy lacks
    if not len(train):
        return np.empty((0, len(given.centre))), np.empty(0, np.int64)
    sets = label_sets(checked_labels(given.labels, n_labelled, len(taxonomy.classes)), taxonomy)
    of_train = sets.of_image[train]
    size = np.bincount(of_train, minlength=sets.n_sets)
    total = np.zeros((sets.n_sets, len(given.centre)))
    for first in range(0, len(train), _BLOCK_ROWS):
        given.check()
        block = slice(first, first + _BLOCK_ROWS)
        rows = np.arange(len(of_train[block]))
        member = sp.csr_array((np.ones(len(rows)), (of_train[block], rows)), shape=(sets.n_sets, len(rows)))
        total += member @ (given.activations[train[block]] - given.centre)
    used = np.flatnonzero(size)
    under = sp.csr_array(sets.closure[used].T.astype(np.float64))
    n_inside = np.asarray(under @ size[used].astype(np.float64))
    # Nodes above the same train images have the same row of `under`.
    _, first_node = np.unique(under.toarray() > 0, axis=0, return_index=True)
    nodes = np.sort(first_node)
    nodes = nodes[(n_inside[nodes] > 0) & (n_inside[nodes] < len(train))]
    inside = np.asarray(under[nodes] @ total[used])
    n_in = n_inside[nodes][:, np.newaxis]
    n_out = len(train) - n_in
    return inside / n_in - (total.sum(axis=0) - inside) / n_out, n_inside[nodes].astype(np.int64)
