"""The synthetic study's intervals, shuffled taxonomies, trends, seed stability and absorption."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from benchmarks.large_study.synthetic_columns import Columns

from hsae.hierarchy.resampling.resampled import HEADLINES
from hsae.hierarchy.study.intervals import Trend

N_REPLICATES, N_TREE_SHUFFLES = 100, 99
_OF_INNER_NODES = 3


def layer_replicate_rows(analysis: int, bases: Sequence[tuple[str, int]], rng: np.random.Generator) -> pa.Table:
    """Rows of layer_replicate of bases and seeds."""
    rows = [
        {
            "analysis_id": analysis,
            "basis": basis,
            "seed": seed,
            "metric": metric,
            "value": (value := rng.random()),
            "n": 1000,
            "replicates": "{" + ",".join(map(repr, rng.normal(value, 0.02, N_REPLICATES).tolist())) + "}",
        }
        for basis, seed in bases
        for metric in HEADLINES
    ]
    return pa.Table.from_pylist(rows)


def layer_tree_shuffle_rows(analysis: int, rng: np.random.Generator) -> pa.Table:
    """Rows of layer_tree_shuffle of the SAE."""
    metrics = [metric for metric in HEADLINES if metric != "purity_mean"]  # which does not depend on the tree
    rows = [
        {
            "analysis_id": analysis, "basis": "sae", "metric": metric, "value": rng.random(),
            "n_shuffles": N_TREE_SHUFFLES, "mean": 0.1, "sd": 0.02, "q025": 0.06, "q975": 0.14, "p": 0.01,
        }
        for metric in metrics
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def trends(analyses: Sequence[int], n_layers: int, rng: np.random.Generator) -> list[Trend]:
    """The trend of every headline number of SAE configurations, given by their first analyses."""
    return [
        Trend(metric, analysis, slope := rng.normal(0, 0.1), slope - 0.02, slope + 0.02, n_layers, 1, 1)
        for analysis in analyses
        for metric in HEADLINES
    ]


def latent_stability_rows(comparison: int, analysis: int, n_latents: int, rng: np.random.Generator) -> pa.Table:
    """Rows of latent_stability of every latent of an analysis."""
    return pa.table(
        {
            "comparison_id": np.full(n_latents, comparison),
            "analysis_id": np.full(n_latents, analysis),
            "latent": np.arange(n_latents),
            "stability": rng.uniform(0, 1, n_latents),
            "chance": np.full(n_latents, 0.1),
            "is_one_to_one": np.zeros(n_latents, dtype=bool),
        }
    )


def node_absorption_rows(
    analysis: int, basis: str, columns: Columns, rng: np.random.Generator, *, seed: int = 0
) -> pa.Table:
    """Rows of node_absorption of the inner nodes."""
    inner = columns.nodes.taxonomy.height >= _OF_INNER_NODES
    ids, n_images = columns.nodes.ids[inner], columns.nodes.n_images[inner]
    n_rows = len(ids)
    n_present = rng.binomial(n_images, 0.6)
    n_silent = rng.binomial(n_present, 0.3)
    n_absorbed = rng.binomial(n_silent, 0.5)
    present = np.maximum(n_present, 1)
    return pa.table(
        {
            "analysis_id": np.full(n_rows, analysis),
            "basis": [basis] * n_rows,
            "synset_id": ids,
            "seed": np.full(n_rows, seed),
            "latent": rng.integers(0, columns.n, n_rows),
            "n_images": n_images,
            "latent_f1": rng.random(n_rows),
            "direction_threshold": rng.exponential(1.0, n_rows),
            "direction_f1_select": rng.random(n_rows),
            "direction_f1": rng.random(n_rows),
            "n_present": n_present,
            "n_silent": n_silent,
            "n_absorbed": n_absorbed,
            "silent_share": n_silent / present,
            "absorbed_share": n_absorbed / present,
            "random_absorbed_share": rng.uniform(0, 0.3, n_rows),
            "carrier": rng.integers(0, columns.n, n_rows),
            "n_carrier": n_absorbed,
        }
    )
