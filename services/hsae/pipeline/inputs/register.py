"""Registers a data set: stores its listing and its part of the taxonomy, enters both in the catalog."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import (
    Dataset,
    DatasetClass,
    DatasetNode,
    Hypernym,
    HypernymClosure,
    Synset,
    transaction,
)
from hsae.catalog.server.locks import DATASET_LOCK, take_lock
from hsae.datasets import ImageDataset
from hsae.hierarchy.statistics.label_sets import classes_of, label_sets
from hsae.pipeline.inputs.dataset_names import NameTakenError, check_name
from hsae.pipeline.inputs.labels import listed_labels
from hsae.pipeline.inputs.stored import node_ids
from hsae.store.keys import listing_key, taxonomy_key
from hsae.store.objects import ObjectStore
from hsae.taxonomy import InducedTaxonomy, Taxonomy, induce

_ROWS_PER_INSERT = 5000


def register_images(
    name: str, images: ImageDataset, taxonomy: Taxonomy, sessions: sessionmaker[Session], store: ObjectStore
) -> tuple[Dataset, bool]:
    """Register scanned images under `name`; returns the row and whether it is new.

    Raises:
        NameTakenError: the name belongs to a data set of other images or labels.
        UserError: the name is not allowed.
    """
    name = check_name(name)
    induced = induce(taxonomy, images.class_ids)
    with transaction(sessions) as session:
        _refuse_taken_name(session, name, images, induced.key)
    listing = io.BytesIO()
    pq.write_table(images.listing, listing, compression="zstd")
    listing_sha256 = hashlib.sha256(listing.getvalue()).hexdigest()
    with transaction(sessions) as session:
        take_lock(session, DATASET_LOCK)
        present = _refuse_taken_name(session, name, images, induced.key)
        # Stored under the lock: the garbage collector, which takes it too, sees both objects and row or neither.
        store.put(listing_key(images.fingerprint, listing_sha256), listing.getvalue())
        store.put(taxonomy_key(induced.key), induced.to_json().encode(), content_type="application/json")
        if present is not None:
            present.root = images.source.root
            present.listing_sha256 = listing_sha256
            return present, False
        dataset = Dataset(
            name=name,
            fingerprint=images.fingerprint,
            checksums=images.checksums,
            root=images.source.root,
            taxonomy=taxonomy.namespace,
            taxonomy_key=induced.key,
            n_images=images.listing.num_rows,
            n_classes=len(induced.classes),
            n_nodes=len(induced.synsets),
            listing_sha256=listing_sha256,
        )
        session.add(dataset)
        session.flush()
        _enter_taxonomy(session, dataset, taxonomy.namespace, induced, images)
        return dataset, True


def _refuse_taken_name(session: Session, name: str, images: ImageDataset, taxonomy_key: str) -> Dataset | None:
    """The data set of that name if it is the same one, None if there is none.

    Raises:
        NameTakenError: it is another one.
    """
    present = session.execute(select(Dataset).where(Dataset.name == name)).scalar_one_or_none()
    if present is not None and (present.fingerprint, present.taxonomy_key) != (images.fingerprint, taxonomy_key):
        other = "images or labels" if present.checksums == images.checksums else "images, labels or --checksums"
        raise NameTakenError(
            f"the name {name} is taken by a data set of other {other} ({present.n_images} images, of"
            f" {present.root}): choose another name, or free this one with `hsae-admin dataset rename {name} NEW`"
        )
    return present


def _enter_taxonomy(
    session: Session, dataset: Dataset, taxonomy: str, induced: InducedTaxonomy, images: ImageDataset
) -> None:
    nodes = [
        {
            "taxonomy": taxonomy,
            "wnid": synset.id,
            "name": synset.name,
            "lemmas": list(synset.lemmas),
            "definition": synset.definition,
        }
        for synset in induced.synsets
    ]
    _insert(session, Synset, nodes)
    ids = node_ids(session, dataset.id, induced).tolist()
    _insert(
        session,
        Hypernym,
        [{"synset_id": ids[c], "hypernym_id": ids[p]} for c, p in induced.hypernym_edges.tolist()],
    )
    _insert(
        session,
        HypernymClosure,
        [
            {"descendant_id": ids[d], "ancestor_id": ids[a], "distance": distance}
            for d, a, distance in induced.node_closure().tolist()
        ],
    )
    labels = listed_labels(images.listing, induced)
    _, every_label = classes_of(labels, np.arange(images.n_images))
    class_images = np.bincount(every_label, minlength=len(induced.classes))
    sets = label_sets(labels, induced)  # an image of several classes counts once under a node
    node_images = np.asarray(sets.closure.T @ np.bincount(sets.of_image, minlength=sets.n_sets))
    class_nodes = set(induced.classes.tolist())
    _insert(
        session,
        DatasetClass,
        [
            {
                "dataset_id": dataset.id,
                "position": position,
                "synset_id": ids[node],
                "label": images.class_names[induced.synsets[node].id],
                "n_images": int(class_images[position]),
            }
            for position, node in enumerate(induced.classes.tolist())
        ],
    )
    _insert(
        session,
        DatasetNode,
        [
            {
                "dataset_id": dataset.id,
                "synset_id": ids[node],
                "height": int(induced.height[node]),
                "depth": int(induced.depth[node]),
                "n_classes": int(induced.leaf_counts[node]),
                "n_images": int(node_images[node]),
                "is_class": node in class_nodes,
            }
            for node in range(len(ids))
        ],
    )


def _insert(session: Session, table: type, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, of which some may exist already (data sets share nodes and edges)."""
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        session.execute(insert(table).on_conflict_do_nothing(), rows[start : start + _ROWS_PER_INSERT])
