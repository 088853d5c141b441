"""The classes and groups of a listing as numbers: what a split of its images is made from."""

import numpy as np
import pyarrow as pa


class ListedImages:
    """The classes and groups of a listing as numbers.

    Attributes:
        stratum: int64[n_images], the image's set of classes.
        names: the ids of the classes of every stratum, sorted.
        image_of: int64[n_labels], the image of every label.
        class_of: int64[n_labels], its class.
        n_classes: number of classes.
        groups: the group of every image, None where it has none; None where no image has one.
    """

    def __init__(self, listing: pa.Table) -> None:
        self.n_images: int = listing.num_rows
        if "class_ids" in listing.column_names:
            sets = [tuple(ids) for ids in listing["class_ids"].to_pylist()]
        else:
            sets = [(class_id,) for class_id in listing["class_id"].to_pylist()]
        self.names = sorted(set(sets))
        number_of = {names: number for number, names in enumerate(self.names)}
        self.stratum = np.array([number_of[names] for names in sets], np.int64)
        classes = {name: number for number, name in enumerate(sorted({name for ids in self.names for name in ids}))}
        self.n_classes = len(classes)
        self.image_of = np.repeat(np.arange(self.n_images), [len(ids) for ids in sets])
        self.class_of = np.array([classes[name] for ids in sets for name in ids], np.int64)
        given = listing["group"].to_pylist() if "group" in listing.column_names else []
        self.groups: list[str | None] | None = given if any(group is not None for group in given) else None
