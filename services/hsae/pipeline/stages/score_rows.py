"""Scores as rows of the catalog: NaN and -1, which mean undefined in the arrays, become NULL."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa

from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.coherence.scores import LayerCoherence
from hsae.hierarchy.probes.class_information import ClassInformation
from hsae.hierarchy.probes.level_scores import LevelScores
from hsae.hierarchy.scores.latent_scores import LatentTable
from hsae.hierarchy.scores.layer_scores import LayerScores


def _column(values: np.ndarray) -> pa.Array:
    """An array with NaN as null."""
    if values.dtype.kind == "f":
        return pa.array(values, mask=np.isnan(values))
    return pa.array(values)


def _integers(values: np.ndarray) -> pa.Array:
    """Integers stored as floats, because some are undefined."""
    undefined = np.isnan(values)
    return pa.array(np.where(undefined, 0, values).astype(np.int64), mask=undefined)


def _synsets(nodes: np.ndarray, synset_ids: np.ndarray) -> pa.Array:
    """Catalog ids of nodes, null for -1."""
    return pa.array(synset_ids[np.maximum(nodes, 0)], mask=nodes < 0)


def node_score_rows(analysis_id: int, results: Sequence[BasisResult], synset_ids: np.ndarray) -> pa.Table:
    """Rows of node_score of all bases of an analysis."""
    return pa.concat_tables([_node_rows(analysis_id, result, synset_ids) for result in results])


def _node_rows(analysis_id: int, result: BasisResult, synset_ids: np.ndarray) -> pa.Table:
    columns = result.nodes.columns()
    synsets = _synsets(columns.pop("node"), synset_ids)
    return _table(_of_basis(analysis_id, result), columns, synset_id=synsets)


def latent_rows(
    analysis_id: int,
    basis: str,
    latents: LatentTable,
    synset_ids: np.ndarray,
    images: np.ndarray,
    paths: Sequence[str],
) -> pa.Table:
    """Rows of latent; `images` and `paths` name the scored rows."""
    columns = latents.columns()
    top_images, top_activations = columns.pop("top_images"), columns.pop("top_activations")
    others = {
        "lch_synset_id": _synsets(columns.pop("lch"), synset_ids),
        "label_synset_id": _synsets(columns.pop("label"), synset_ids),
        "lch_height": _integers(columns.pop("lch_height")),
        "lch_depth": _integers(columns.pop("lch_depth")),
    }
    names = [json.dumps(path) for path in paths]
    top = [
        "["
        + ", ".join(
            f'{{"image": {images[row]}, "path": {names[row]}, "activation": {activation:.6g}}}'
            for row, activation in zip(rows, activations, strict=True)
            if row >= 0
        )
        + "]"
        for rows, activations in zip(top_images.tolist(), top_activations.tolist(), strict=True)
    ]
    return _table(
        {"analysis_id": analysis_id, "basis": basis}, columns, top_images=pa.array(top, pa.string()), **others
    )


def latent_place_rows(analysis_id: int, result: BasisResult, synset_ids: np.ndarray) -> pa.Table:
    """Rows of latent_place of one basis: every latent by every association rule."""
    tables = []
    for rule, places in result.places.items():
        head = {"analysis_id": analysis_id, "basis": result.basis, "rule": rule}
        columns = {
            "latent": np.arange(len(places.lch), dtype=np.int32),
            "n_associated": places.n_associated,
            "lch_height_relative": places.height_relative,
            "coverage": places.coverage,
        }
        others = {
            "lch_synset_id": _synsets(places.lch, synset_ids),
            "lch_height": _integers(places.height),
            "lch_depth": _integers(places.depth),
        }
        tables.append(_table(head, columns, **others))
    return pa.concat_tables(tables)


def latent_edge_rows(analysis_id: int, result: BasisResult, synset_ids: np.ndarray) -> pa.Table:
    """Rows of latent_edge of one basis."""
    columns = result.edges.columns()
    others = {
        "parent_synset_id": _synsets(columns.pop("parent_node"), synset_ids),
        "child_synset_id": _synsets(columns.pop("child_node"), synset_ids),
        "is_ms_abstract": _integers(columns.pop("is_ms_abstract")).cast(pa.bool_()),
    }
    return _table(_of_basis(analysis_id, result), columns, **others)


def latent_family_rows(analysis_id: int, result: BasisResult) -> pa.Table:
    """Rows of latent_family of one basis."""
    return _table(_of_basis(analysis_id, result), result.families.columns())


def node_absorption_rows(analysis_id: int, result: BasisResult, synset_ids: np.ndarray) -> pa.Table | None:
    """Rows of node_absorption of one basis; None where it is not measured."""
    if result.absorption is None:
        return None
    columns = result.absorption.columns()
    carrier = columns.pop("carrier")
    others = {
        "synset_id": _synsets(columns.pop("node"), synset_ids),
        "carrier": pa.array(carrier, mask=carrier < 0),
    }
    return _table(_of_basis(analysis_id, result), columns, **others)


def class_probe_values(information: ClassInformation) -> dict[str, Any]:
    """The scores in a row of class_probe; those of the classes are the last level's."""
    levels, paths, logistic = information.levels, information.paths, information.logistic
    of_classes = ("probe_accuracy", "probe_chance", "knn_accuracy", "nn_accuracy")
    values = {name: float(levels.columns()[name][-1]) for name in of_classes} | {
        "n_neighbours": information.k,
        "path_correlation": paths.cosine,
        "path_correlation_shuffled": paths.shuffled_cosine_mean,
        "path_correlation_shuffled_sd": paths.shuffled_cosine_sd,
    }
    if logistic is not None:
        values |= {"logistic_accuracy": logistic.accuracy, "logistic_l2": logistic.l2}
    return {name: _null(value) for name, value in values.items()}


def class_probe_level_rows(class_probe_id: int, levels: LevelScores) -> pa.Table:
    """Rows of class_probe_level."""
    return _table({"class_probe_id": class_probe_id}, levels.columns())


def _of_basis(analysis_id: int, result: BasisResult) -> dict[str, Any]:
    return {"analysis_id": analysis_id, "basis": result.basis, "seed": result.seed}


def _table(head: Mapping[str, Any], columns: Mapping[str, np.ndarray], **others: pa.Array) -> pa.Table:
    n_rows = len(next(iter(columns.values())))
    same = {name: pa.repeat(value, n_rows) for name, value in head.items()}
    return pa.table(same | {name: _column(values) for name, values in columns.items()} | others)


def layer_score_row(analysis_id: int, result: BasisResult, measured: Mapping[str, float | None]) -> dict[str, Any]:
    """A row of layer_score; `measured` adds the reconstruction."""
    layer: LayerScores = result.layer
    values = {name: _null(value) for name, value in asdict(layer).items() if name in _LAYER_COLUMNS}
    return {
        "analysis_id": analysis_id,
        "basis": result.basis,
        "seed": result.seed,
        "l0": layer.l0_mean,
        "share_nodes_f1": _null(layer.f1_node_share),
        "share_nodes_rarefied": _null(layer.rarefied_node_share),
        "share_nodes_q": _null(layer.q_node_share),
        "by_height": [
            {"height": height, "n_nodes": counts.n_nodes, "n_f1": counts.n_f1, "n_q": counts.n_q}
            for height, counts in sorted(layer.by_height.items())
        ],
        **values,
        **{name: _null(value) for name, value in measured.items()},
    }


_LAYER_COLUMNS = frozenset(
    {
        *(field.name for field in fields(LayerCoherence)),
        "n_latents",
        "n_dead",
        "dead_share",
        "lch_height_mean",
        "lch_height_median",
        "lch_height_q25",
        "lch_height_q75",
        "lch_height_relative_mean",
        "coverage_mean",
        "coverage_median",
        "n_nodes",
        "best_f1_mean",
        "best_f1_inner_mean",
        "best_f1_adjusted_mean",
        "best_f1_adjusted_single_mean",
        "best_f1_adjusted_pair_mean",
        "best_f1_adjusted_inner_mean",
        "n_rarefied",
    }
)


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
