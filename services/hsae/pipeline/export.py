"""An analysis as files, so that anyone can check it with their own tools."""

import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Dataset, transaction
from hsae.catalog.conditions import Row
from hsae.catalog.queries import find_analysis
from hsae.errors import UserError
from hsae.hierarchy.class_sums import ClassSums
from hsae.hierarchy.node_scores import NodeScores, iter_node_scores
from hsae.pipeline.damage import forget_object
from hsae.pipeline.dataset_ref import dataset_ref
from hsae.pipeline.latent_activations import get_latent_activations
from hsae.pipeline.register import read_listing, read_taxonomy
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import class_sums_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors
from hsae.taxonomy import InducedTaxonomy

_SCORES = [field.name for field in fields(NodeScores)]


def export_analysis(analysis: int | None, folder: Path, sessions: sessionmaker[Session], store: ObjectStore) -> Row:
    """Write an analysis (None: the latest) to `folder`, which must be new or empty; returns what was exported.

    - `activations.npz`: SciPy CSR float32 `[n_images, n_latents]`, the activation of each latent on each image
    - `images.parquet`: image, path, synset (wnid; in a data set where images have several labels instead a list,
      synsets); one row per row of the matrix, in its order
    - `closure.parquet`: descendant, ancestor (wnids; a node is its own ancestor)
    - `node_score.parquet`: latent, synset and every score, for every pair

    Raises:
        UserError: when there is no such analysis or `folder` is not empty.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror or error}): choose another with -o") from error
    if taken:
        raise UserError(f"{folder} is not an empty folder: choose another with -o")
    with transaction(sessions) as session:
        found = find_analysis(session, analysis)
        dataset = dataset_ref(session.get_one(Dataset, found["dataset_id"]))
    sums_sha256 = found["class_sums_sha256"]
    try:
        latents = get_latent_activations(store, found["key"], found["activations_sha256"])
        tensors, _ = get_tensors(store, class_sums_key(found["key"], sums_sha256), sha256=sums_sha256)
    except (ObjectMissingError, ObjectCorruptError) as loss:
        with transaction(sessions) as session:
            forget_object(session, loss.key, "results export", str(loss))
        raise
    sums = ClassSums.from_arrays({name: tensor.numpy() for name, tensor in tensors.items()})
    taxonomy = read_taxonomy(store, dataset)
    listing = read_listing(store, dataset).take(latents.images)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and moved at the end: an export that fails leaves nothing half-made.
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            sp.save_npz(aside / "activations.npz", latents.z)
            several = "class_ids" in listing.column_names
            synset = {"synsets": listing["class_ids"]} if several else {"synset": listing["class_id"]}
            images = {"image": listing["image"], "path": listing["path"], **synset}
            pq.write_table(pa.table(images), aside / "images.parquet")
            pq.write_table(_closure(taxonomy), aside / "closure.parquet")
            n_pairs = _write_scores(sums, taxonomy, aside / "node_score.parquet")
            aside.chmod(0o755)
            if folder.exists():
                folder.rmdir()
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror or error}): choose another with -o") from error
    return found | {"folder": str(folder), "n_pairs": n_pairs, "n_latents": latents.z.shape[1]}


def _wnids(taxonomy: InducedTaxonomy) -> np.ndarray:
    return np.array([synset.id for synset in taxonomy.synsets])


def _closure(taxonomy: InducedTaxonomy) -> pa.Table:
    wnids = _wnids(taxonomy)
    pairs = taxonomy.node_closure()
    return pa.table({"descendant": wnids[pairs[:, 0]], "ancestor": wnids[pairs[:, 1]]})


def _write_scores(sums: ClassSums, taxonomy: InducedTaxonomy, path: Path) -> int:
    """Every pair, block by block, latent by latent in the order of the taxonomy's nodes; returns their number."""
    wnids = pa.array(_wnids(taxonomy))
    writer: pq.ParquetWriter | None = None
    n_pairs = 0
    try:
        for block, scores in iter_node_scores(sums, sums.closure(taxonomy)):
            first, end, _ = block.indices(sums.n_latents)
            n_latents = end - first
            columns: dict[str, pa.Array] = {
                "latent": pa.array(np.repeat(np.arange(first, end, dtype=np.int32), len(wnids))),
                "synset": pa.DictionaryArray.from_arrays(
                    np.tile(np.arange(len(wnids), dtype=np.int32), n_latents), wnids
                ),
            }
            for name in _SCORES:
                values = np.broadcast_to(getattr(scores, name), (n_latents, len(wnids))).ravel()
                columns[name] = pa.array(values, mask=np.isnan(values) if values.dtype.kind == "f" else None)
            table = pa.table(columns)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            n_pairs += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n_pairs
