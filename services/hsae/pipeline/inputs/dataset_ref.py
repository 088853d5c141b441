"""A registered data set as jobs refer to it. Separate from registration, which imports Parquet and SciPy."""

from hsae.catalog import Dataset
from hsae.frozen_model import FrozenModel


class DatasetRef(FrozenModel):
    """A registered data set as jobs refer to it."""

    id: int
    name: str
    root: str
    fingerprint: str
    listing_sha256: str
    taxonomy_key: str


def dataset_ref(dataset: Dataset) -> DatasetRef:
    """The reference to a data set."""
    return DatasetRef(
        id=dataset.id,
        name=dataset.name,
        root=dataset.root,
        fingerprint=dataset.fingerprint,
        listing_sha256=dataset.listing_sha256,
        taxonomy_key=dataset.taxonomy_key,
    )
