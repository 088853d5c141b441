"""Reads back what a registered data set has in the object store and in the catalog."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import (
    Dataset,
    Synset,
)
from hsae.pipeline.inputs.dataset_ref import DatasetRef
from hsae.store.keys import listing_key, taxonomy_key
from hsae.store.objects import ObjectStore
from hsae.taxonomy import InducedTaxonomy


def read_listing(store: ObjectStore, dataset: DatasetRef) -> pa.Table:
    """The listing of a registered data set: image, path, class_id (or class_ids), sha256, n_bytes."""
    content = store.get(listing_key(dataset.fingerprint, dataset.listing_sha256), sha256=dataset.listing_sha256)
    return pq.read_table(io.BytesIO(content))


def read_taxonomy(store: ObjectStore, dataset: DatasetRef) -> InducedTaxonomy:
    """The induced taxonomy of a registered data set."""
    content = store.get(taxonomy_key(dataset.taxonomy_key), sha256=dataset.taxonomy_key)
    return InducedTaxonomy.from_json(content.decode())


def node_ids(session: Session, dataset_id: int, induced: InducedTaxonomy) -> np.ndarray:
    """Catalog ids of the nodes of a data set's induced taxonomy: int64[n_nodes], in the order of `induced.synsets`."""
    taxonomy = select(Dataset.taxonomy).where(Dataset.id == dataset_id).scalar_subquery()
    known = {
        row.wnid: row.id for row in session.execute(select(Synset.wnid, Synset.id).where(Synset.taxonomy == taxonomy))
    }
    return np.array([known[synset.id] for synset in induced.synsets], dtype=np.int64)
