"""The labels of real images, without the images."""

import csv
from pathlib import Path

import numpy as np

from hsae.demo import images_listing
from hsae.taxonomy import InducedTaxonomy, induce, load_taxonomy


def labels_listed(path: Path, column: str) -> tuple[np.ndarray, InducedTaxonomy]:
    """Classes and taxonomy of a listing whose column has wnids."""
    with path.open(newline="") as file:
        wnids = [row[column] for row in csv.DictReader(file)]
    taxonomy = induce(load_taxonomy(), sorted(set(wnids)))
    place = {taxonomy.synsets[node].id: position for position, node in enumerate(taxonomy.classes)}
    return np.array([place[wnid] for wnid in wnids]), taxonomy


def demo_labels() -> tuple[np.ndarray, InducedTaxonomy]:
    """Of the demo's images."""
    return labels_listed(images_listing(), "label")
