"""The files of an export: matrices and tables that other tools read without hsae."""

import json
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from hsae.catalog.queries.conditions import Row
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.pipeline.stages.latent_activations import LatentActivations
from hsae.taxonomy import InducedTaxonomy

SCORES = [field.name for field in fields(NodeScores)]


@dataclass(frozen=True, slots=True)
class Exported:
    """The content of an export.

    Attributes:
        row: the analysis' row of the catalog, with the rows that it refers to.
        latents: the latent activations.
        sums: the sums by class.
        taxonomy: the data set's induced taxonomy.
        listing: the data set's listing, one row per row of the latents.
        labels: by wnid what the data set calls the class.
        weights: the SAE's stored object.
        parts: what each row's image does: `train`, `select` or `score`, with halves `train and select`; `unused` where
            another data set trains and the image's group is not named; None in-sample.
    """

    row: Row
    latents: LatentActivations
    sums: ClassSums
    taxonomy: InducedTaxonomy
    listing: pa.Table
    labels: dict[str, str]
    weights: bytes
    parts: list[str] | None = None

    @property
    def has_several_labels(self) -> bool:
        """Whether images have lists of labels."""
        return "class_ids" in self.listing.column_names


def write_files(target: Path, exported: Exported) -> int:
    """Write every file except the page that describes them; returns the number of scored pairs."""
    sp.save_npz(target / "activations.npz", exported.latents.z)
    pq.write_table(_images(exported), target / "images.parquet")
    pq.write_table(_synsets(exported), target / "synsets.parquet")
    pq.write_table(_closure(exported.taxonomy), target / "closure.parquet")
    (target / "sae.safetensors").write_bytes(exported.weights)
    _write_json(target / "sae.json", _sae(exported.row))
    _write_json(target / "analysis.json", _analysis(exported.row))
    return _write_scores(exported.sums, exported.taxonomy, target / "node_score.parquet")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sae(row: Row) -> dict[str, Any]:
    return {
        "key": row["sae_key"],
        "weights_sha256": row["weights_sha256"],
        "n_latents": row["n_latents"],
        "d_model": row["d_model"],
        "config": row["sae_config"],
        "metrics": row["sae_metrics"],
    }


def _analysis(row: Row) -> dict[str, Any]:
    names = ("key", "model", "revision", "preprocessing", "layer", "tokens", "dataset", "image_root", "n_images")
    return {
        "analysis": row["id"],
        **{name: row[name] for name in names},
        "scoring": row["config"],
        "train_dataset": row["train_dataset"],
        "split": row["split"],
        "hsae_version": version("hsae"),
    }


def _images(exported: Exported) -> pa.Table:
    names = {synset.id: synset.name for synset in exported.taxonomy.synsets}
    listing = exported.listing
    columns = {"image": listing["image"], "path": listing["path"]}
    if exported.parts is not None:
        columns["part"] = pa.array(exported.parts)
    if exported.has_several_labels:
        several = [[names[wnid] for wnid in wnids] for wnids in listing["class_ids"].to_pylist()]
        return pa.table(columns | {"synsets": listing["class_ids"], "synset_names": several})
    named = [names[wnid] for wnid in listing["class_id"].to_pylist()]
    return pa.table(columns | {"synset": listing["class_id"], "synset_name": named})


def _synsets(exported: Exported) -> pa.Table:
    taxonomy = exported.taxonomy
    classes = set(taxonomy.classes.tolist())
    return pa.table(
        {
            "synset": [synset.id for synset in taxonomy.synsets],
            "synset_name": [synset.name for synset in taxonomy.synsets],
            "lemmas": pa.array([list(synset.lemmas) for synset in taxonomy.synsets], pa.list_(pa.string())),
            "definition": [synset.definition for synset in taxonomy.synsets],
            "label": pa.array([exported.labels.get(synset.id) for synset in taxonomy.synsets], pa.string()),
            "is_class": [node in classes for node in range(len(taxonomy.synsets))],
            "height": pa.array(np.asarray(taxonomy.height, dtype=np.int32)),
            "depth": pa.array(np.asarray(taxonomy.depth, dtype=np.int32)),
            "n_classes": pa.array(np.asarray(taxonomy.leaf_counts, dtype=np.int32)),
        }
    )


def _closure(taxonomy: InducedTaxonomy) -> pa.Table:
    wnids = np.array([synset.id for synset in taxonomy.synsets])
    names = np.array([synset.name for synset in taxonomy.synsets])
    pairs = taxonomy.node_closure()
    return pa.table(
        {
            "descendant": wnids[pairs[:, 0]],
            "ancestor": wnids[pairs[:, 1]],
            "descendant_name": names[pairs[:, 0]],
            "ancestor_name": names[pairs[:, 1]],
        }
    )


def _write_scores(sums: ClassSums, taxonomy: InducedTaxonomy, path: Path) -> int:
    """Write every pair, sorted by latent, then in the order of the taxonomy's nodes; returns their number."""
    words = {
        "synset": pa.array([synset.id for synset in taxonomy.synsets]),
        "synset_name": pa.array([synset.name for synset in taxonomy.synsets]),
    }
    n_nodes = len(taxonomy.synsets)
    writer: pq.ParquetWriter | None = None
    n_pairs = 0
    try:
        for block, scores in iter_node_scores(sums, sums.closure(taxonomy)):
            first, end, _ = block.indices(sums.n_latents)
            n_latents = end - first
            node = np.tile(np.arange(n_nodes, dtype=np.int32), n_latents)
            columns: dict[str, pa.Array] = {
                "latent": pa.array(np.repeat(np.arange(first, end, dtype=np.int32), n_nodes)),
                **{name: pa.DictionaryArray.from_arrays(node, values) for name, values in words.items()},
            }
            for name in SCORES:
                values = np.broadcast_to(getattr(scores, name), (n_latents, n_nodes)).ravel()
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
