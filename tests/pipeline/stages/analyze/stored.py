"""What an analysis stored, and what it was made from, read back."""

import numpy as np
import torch
from sqlalchemy import select, text
from tests.pipeline.in_process import TINY_SAE, job_id, plan_small
from tests.small import quick_scoring

from hsae.catalog import Dataset, transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.dataset_ref import dataset_ref
from hsae.pipeline.inputs.stored import node_ids, read_taxonomy
from hsae.pipeline.stages.latent_activations import get_latent_activations
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors
from hsae.taxonomy import InducedTaxonomy

N_CLASSES = 5
THRESHOLD = 2.0


RELU = SaeConfig(kind="relu", expansion=2, n_steps=40)


def plan_analysis(service, *, sae=TINY_SAE, layer=3, scoring=None, **extraction):
    """With the layer's own embeddings unless `scoring` says otherwise."""
    return plan_small(
        service,
        layers=(layer,),
        saes=(sae,),
        extraction=ExtractionConfig(**{"shard_images": 9, "batch_size": 6, **extraction}),
        scoring=scoring or quick_scoring(n_shuffles=1, embeddings="own"),
    )


def query(service, statement, **values):
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(statement), values).mappings()]


def analysis_of(service, plan):
    """Row of the analysis that a plan's job made, and what it scored."""
    (row,) = query(service, "SELECT * FROM analysis WHERE job_id = :id", id=job_id(plan, "analyze"))
    return row, get_latent_activations(service.store, row["key"], row["activations_sha256"])


def trained_sae(service, plan, config) -> SparseAutoencoder:
    (row,) = query(service, "SELECT key, weights_sha256 FROM sae WHERE job_id = :id", id=job_id(plan, "train"))
    tensors, _ = get_tensors(
        service.store, weights_key(row["key"], row["weights_sha256"]), sha256=row["weights_sha256"]
    )
    return SparseAutoencoder.from_tensors(tensors, config)


def stored_rows(service, plan) -> TrainingRows:
    """All activation rows that a plan extracted."""
    shards = query(
        service,
        "SELECT object_key FROM activation_shard h JOIN activation_set s ON s.id = h.activation_set_id"
        " WHERE job_id = :id ORDER BY shard",
        id=job_id(plan, "extract"),
    )
    tensors = [get_tensors(service.store, shard["object_key"], sha256=None)[0] for shard in shards]
    return TrainingRows(
        *(torch.cat([part[name] for part in tensors]) for name in ("activations", "image_index", "view"))
    )


def stored_taxonomy(service) -> tuple[InducedTaxonomy, np.ndarray]:
    """The data set's taxonomy, and the catalog's id of every node of it."""
    with transaction(service.sessions) as session:
        dataset = dataset_ref(session.execute(select(Dataset)).scalar_one())
        taxonomy = read_taxonomy(service.store, dataset)
        return taxonomy, node_ids(session, dataset.id, taxonomy)


def assert_stored(service, table, analysis_id, keys, columns) -> None:
    """Rows of the SAE's basis, sorted by `keys`, are `columns`; NaN is stored as NULL."""
    where = "analysis_id = :id AND basis = 'sae'"
    stored = query(service, f"SELECT * FROM {table} WHERE {where} ORDER BY {', '.join(keys)}", id=analysis_id)
    n_rows = len(columns[keys[0]])
    assert len(stored) == n_rows > 0
    assert set(stored[0]) - {"analysis_id", "basis", "seed"} == set(columns)
    for name, values in columns.items():
        found = [r[name] for r in stored]
        if values.dtype.kind == "f":
            np.testing.assert_allclose(np.array(found, dtype=np.float64), values, rtol=1e-12, err_msg=name)
        else:
            assert found == values.tolist(), name
