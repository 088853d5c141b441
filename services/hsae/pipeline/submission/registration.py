"""Registers a data set: `dataset add`, and a submit of a folder."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select

from hsae.catalog import Dataset, DatasetClass, transaction
from hsae.datasets import ImageDataset, resolved, scan, source_at
from hsae.datasets.mapping import MAPPING_COLUMNS
from hsae.pipeline.connections import Connections
from hsae.pipeline.inputs.dataset_names import check_name
from hsae.pipeline.inputs.register import register_images
from hsae.taxonomy import SenseChoice, Taxonomy, load_taxonomy
from hsae.taxonomy.csv_rows import read_csv_rows


@dataclass(frozen=True, slots=True)
class Registration:
    """A registered data set.

    Attributes:
        dataset: its row.
        is_new: whether it was registered now.
        images: the result of its scan.
        n_labels: number of labels of all images together.
    """

    dataset: Dataset
    is_new: bool
    images: ImageDataset
    n_labels: int


def add_dataset(
    connections: Connections,
    name: str,
    location: str | Path,
    *,
    mapping: Path | None = None,
    taxonomy: Path | None = None,
    senses: SenseChoice | None = None,
) -> Registration:
    """Register the data set at a path or URI under a name."""
    # Refused before WordNet is loaded and all images are read.
    check_name(name)
    location = resolved(location)
    source_at(location).check()
    if mapping is not None:
        read_csv_rows(mapping, MAPPING_COLUMNS)
    connections.sessions, connections.store  # noqa: B018
    loaded = load_taxonomy(taxonomy, wordnet=connections.settings.wordnet)
    images = scan(location, loaded, mapping=mapping, senses=senses)
    return register_scanned(connections, name, images, loaded)


def register_scanned(connections: Connections, name: str, images: ImageDataset, taxonomy: Taxonomy) -> Registration:
    """Register images that were scanned already."""
    row, is_new = register_images(name, images, taxonomy, connections.sessions, connections.store)
    with transaction(connections.sessions) as session:
        of_dataset = DatasetClass.dataset_id == row.id
        n_labels = session.execute(select(func.sum(DatasetClass.n_images)).where(of_dataset)).scalar_one()
    return Registration(row, is_new, images, n_labels)
