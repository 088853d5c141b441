"""The labels of a listing's images as positions in the taxonomy: one each, or the several that some images have."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from hsae.hierarchy.statistics.label_sets import Labels
from hsae.taxonomy import InducedTaxonomy


def listed_labels(listing: pa.Table, taxonomy: InducedTaxonomy) -> Labels:
    """The labels of the rows of a listing, or of a part of one.

    If images of the data set have several labels, they are a bool matrix [n_images, n_classes], whatever the rows are.
    """
    position = {class_id: i for i, class_id in enumerate(_class_ids(taxonomy))}
    if "class_ids" not in listing.column_names:
        return np.array([position[class_id] for class_id in listing["class_id"].to_pylist()], np.int64)
    of_image = listing["class_ids"].to_pylist()
    classes = np.array([position[class_id] for ids in of_image for class_id in ids], np.int64)
    indptr = np.cumsum([0, *map(len, of_image)])
    shape = (len(of_image), len(taxonomy.classes))
    return sp.csr_array((np.ones(len(classes), np.bool_), classes, indptr), shape=shape)


def labelled_rows(listing: pa.Table, taxonomy: InducedTaxonomy) -> np.ndarray:
    """Which rows of a listing, of the same or of another data set, have a class of the taxonomy: bool[n_rows]."""
    known = set(_class_ids(taxonomy))
    if "class_ids" in listing.column_names:
        return np.array([not known.isdisjoint(ids) for ids in listing["class_ids"].to_pylist()], np.bool_)
    return np.array([class_id in known for class_id in listing["class_id"].to_pylist()], np.bool_)


def joined_labels(listings: Sequence[pa.Table], taxonomy: InducedTaxonomy) -> Labels:
    """The labels of the rows of several listings, one after the other; every row has a class of the taxonomy.

    Classes that the taxonomy lacks are left out. If images of one listing have several labels, all are a matrix.
    """
    if not any("class_ids" in listing.column_names for listing in listings):
        joined: Labels = np.concatenate([listed_labels(listing, taxonomy) for listing in listings])
        return joined
    known = set(_class_ids(taxonomy))
    sets = [
        [[id_ for id_ in ids if id_ in known] for ids in listing["class_ids"].to_pylist()]
        if "class_ids" in listing.column_names
        else [[class_id] for class_id in listing["class_id"].to_pylist()]
        for listing in listings
    ]
    return listed_labels(pa.table({"class_ids": [ids for of_listing in sets for ids in of_listing]}), taxonomy)


def _class_ids(taxonomy: InducedTaxonomy) -> list[str]:
    return [taxonomy.synsets[node].id for node in taxonomy.classes.tolist()]
