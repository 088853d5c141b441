"""Labels of images, one or several per image, and the exact scoring of images with several labels.

The images of a node are those with any label under it. A sum over its classes would count an image with two of these
labels twice. Therefore images with the same labels are grouped: the kernels treat every distinct *label set* as a
class, which lies under every node that is above one of its classes.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int, Int64

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import ranges
from hsae.taxonomy import InducedTaxonomy

Labels = Int[np.ndarray, "n_images"] | sp.csr_array
"""The class of every image; or, for several labels, a matrix [n_images, n_classes], non-zero for each label."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSets:
    """The distinct label sets of some images; if every image has one label, the classes themselves.

    Attributes:
        of_image: label set of every image.
        closure: uint8[n_sets, n_nodes], 1 if the node is a class of the set or an ancestor of one.
        members: bool[n_sets, n_classes], the classes of every set; None if the sets are the classes themselves.
    """

    of_image: Int64[np.ndarray, "n_images"]
    closure: "sp.csr_array[np.uint8]"
    members: "sp.csr_array[np.bool_] | None" = None

    @property
    def n_sets(self) -> int:
        """Number of label sets; if they are the classes, including classes without images."""
        return int(self.closure.shape[0])


def label_sets(labels: Labels, taxonomy: InducedTaxonomy) -> LabelSets:
    """Group the images by their labels; sets are ordered by size, then by classes.

    Args:
        labels: from `checked_labels`.
        taxonomy: the induced taxonomy of the classes.
    """
    if not sp.issparse(labels):
        return LabelSets(labels, taxonomy.closure)
    n_labels = np.diff(labels.indptr)
    of_image = np.empty(labels.shape[0], np.int64)
    sets: list[np.ndarray] = []
    n_sets = 0
    for size in np.unique(n_labels):
        images = np.flatnonzero(n_labels == size)
        rows = labels.indices[labels.indptr[images][:, np.newaxis] + np.arange(size)]
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        of_image[images] = n_sets + which.ravel()
        sets += list(distinct)
        n_sets += len(distinct)
    indptr = np.cumsum([0, *map(len, sets)])
    classes = np.concatenate(sets)
    members = sp.csr_array((np.ones(len(classes), np.bool_), classes, indptr), shape=(n_sets, labels.shape[1]))
    return LabelSets(of_image, closure_of_sets(members, taxonomy), members)


def closure_of_sets(members: "sp.csr_array[np.bool_]", taxonomy: InducedTaxonomy) -> "sp.csr_array[np.uint8]":
    """The closure of label sets, as in `LabelSets.closure`.

    Args:
        members: [n_sets, n_classes], the classes of every set.
        taxonomy: the induced taxonomy of the classes.
    """
    n_under = members.astype(np.int32) @ taxonomy.closure.astype(np.int32)
    closure = sp.csr_array((np.ones(n_under.nnz, np.uint8), n_under.indices, n_under.indptr), shape=n_under.shape)
    closure.sort_indices()
    return closure


def classes_of(
    labels: Labels, images: Int[np.ndarray, "n"]
) -> tuple[Int64[np.ndarray, "n_labels"], Int64[np.ndarray, "n_labels"]]:
    """The labels of some images, concatenated: for each label the position of its image in `images`, and its class.

    Args:
        labels: from `checked_labels`.
        images: row numbers in any order; duplicates are allowed.
    """
    if not sp.issparse(labels):
        return np.arange(len(images)), labels[images]
    entry, place = ranges(labels.indptr[images], np.diff(labels.indptr)[images])
    return place, labels.indices[entry].astype(np.int64)


def checked_labels(labels: Labels, n_images: int, n_classes: int) -> Labels:
    """Check labels; return them as int64, or as bool in CSR form with ascending classes and no stored zeros.

    A matrix with one label per image is returned as int64, so that both forms give the same scores to the last bit.

    Raises:
        UserError: there is not one label per image, an image has none, or a label lies outside the taxonomy.
    """
    if sp.issparse(labels):
        return _checked_matrix(labels, n_images, n_classes)
    return checked_positions(labels, n_images, n_classes)


def checked_positions(
    labels: Int[np.ndarray, "n_images"], n_images: int, n_classes: int
) -> Int64[np.ndarray, "n_images"]:
    """As `checked_labels`, for one label per image: int64[n_images]."""
    labels = np.asarray(labels)
    if labels.shape != (n_images,):
        raise UserError(f"{labels.size} labels for the activations of {n_images} images: give one label per image")
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(f"labels must be integers, not {labels.dtype}")
    is_bad = (labels < 0) | (labels >= n_classes)
    if is_bad.any():
        image = int(np.argmax(is_bad))
        raise UserError(
            f"label {int(labels[image])} of image {image} is none of the taxonomy's {n_classes} classes "
            f"(0 to {n_classes - 1}): analyse with the taxonomy that was induced from these classes"
        )
    return labels.astype(np.int64)


def _checked_matrix(labels: sp.csr_array, n_images: int, n_classes: int) -> Labels:
    if labels.format != "csr" or labels.dtype.kind not in "biu":
        raise TypeError(f"labels must be bool or integers in CSR form, not {labels.dtype} in {labels.format.upper()}")
    if labels.shape != (n_images, n_classes):
        raise UserError(
            f"labels of {labels.shape[0]} images and {labels.shape[1]} classes for the activations of {n_images} "
            f"images and a taxonomy of {n_classes} classes: give one row per image and one column per class"
        )
    labels = sp.csr_array((labels.data != 0, labels.indices, labels.indptr), shape=labels.shape, copy=True)
    labels.sum_duplicates()
    labels.eliminate_zeros()
    n_labels = np.diff(labels.indptr)
    if not n_labels.all():
        raise UserError(
            f"{int((n_labels == 0).sum())} images have no label (the first: image {int(np.argmin(n_labels))}): "
            "label them or leave them out"
        )
    return labels.indices.astype(np.int64) if (n_labels == 1).all() else labels
