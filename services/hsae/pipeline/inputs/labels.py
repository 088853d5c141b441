"""The labels of a listing's images as positions in the taxonomy: one each, or the several that some images have."""

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from hsae.hierarchy.statistics.label_sets import Labels
from hsae.taxonomy import InducedTaxonomy


def listed_labels(listing: pa.Table, taxonomy: InducedTaxonomy) -> Labels:
    """The labels of the rows of a listing, or of a part of one.

    If images of the data set have several labels, they are a bool matrix [n_images, n_classes], whatever the rows are.
    """
    position = {taxonomy.synsets[node].id: i for i, node in enumerate(taxonomy.classes.tolist())}
    if "class_ids" not in listing.column_names:
        return np.array([position[class_id] for class_id in listing["class_id"].to_pylist()])
    of_image = listing["class_ids"].to_pylist()
    classes = np.array([position[class_id] for ids in of_image for class_id in ids], np.int64)
    indptr = np.cumsum([0, *map(len, of_image)])
    shape = (len(of_image), len(taxonomy.classes))
    return sp.csr_array((np.ones(len(classes), np.bool_), classes, indptr), shape=shape)
