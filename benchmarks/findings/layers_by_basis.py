"""The table layer x basis of one data set and backbone: what a trained SAE shows, beside its baselines, with intervals.

Every block's class tokens get TopK SAEs from several seeds, trained on the images that train, and scored with their
controls on images that neither trained nor chose. Intervals, differences and slopes are those of a study's comparison.
No measurement of time.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.findings.layer_table import Settings, plain, table_of
from benchmarks.findings.layer_table_text import markdown, rows_of
from benchmarks.findings.real_layers import N_VIEWS, RealData, RealLayers
from benchmarks.measure import machine, print_header, print_report, versions

from hsae.errors import UserError
from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.config import ProbeConfig, ScoringConfig
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.resampling.tree_shuffles import quantiles
from hsae.hierarchy.score_bases import score_bases
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig
from hsae.split_config import NamedGroups, SplitConfig
from hsae.vocabulary.bases import BASELINES

LAYER_NUMBERS = (
    "n_latents", "n_dead", "l0_mean", "coherence_p", "n_coherent", "n_lch_eligible", "n_nodes", "n_inner_nodes",
    "q_node_share", "best_f1_inner_mean",
)  # fmt: skip
"""What is kept of a layer's row beside the headline numbers, which have replicates."""

NOT_MEASURED = [
    "SAEs with a frozen or soft-frozen decoder, the ceiling class_mean, a randomly initialised backbone",
    "other SAE kinds, L0s and widths; patch tokens",
]
NO_GROUPS = "images of a group that no SAE saw: near-duplicates of scored images may have trained"


@dataclass(frozen=True, slots=True)
class Run:
    """One SAE: a block and a seed."""

    block: int
    seed: int


def config_of(settings: Settings, seed: int) -> SaeConfig:
    """The SAE of a seed."""
    return SaeConfig(kind="topk", k=settings.k, expansion=settings.expansion, n_steps=settings.n_steps, seed=seed)


def measured(layers: RealLayers, run: Run, settings: Settings, n_columns: int | None) -> dict[str, Any]:
    """All numbers of one SAE, as JSON; with the first seed also the probe, all baselines and shuffles.

    Args:
        layers: the class tokens.
        run: block and seed.
        settings: of the SAE and the scoring.
        n_columns: the fewest columns of a basis with the first seed, to which shares are rarefied; None: of this one.
    """
    start = time.perf_counter()
    trained = layers.train(run.block, config_of(settings, run.seed))
    seconds_to_train = time.perf_counter() - start
    is_first = run.seed == 0
    scoring = ScoringConfig(
        n_shuffles=settings.n_shuffles if is_first else 0,
        n_replicates=settings.n_replicates,
        n_tree_shuffles=settings.n_tree_shuffles,
        controls=BASELINES if is_first else (),
    )
    results = score_bases(layers.scored(run.block, trained.sae), layers.images(), scoring)
    if n_columns is not None:
        results = [_rarefied(result, n_columns) for result in results]
    metrics = trained.metrics
    found: dict[str, Any] = {
        **asdict(run),
        "settings": asdict(settings),
        "sae": {name: getattr(metrics, name) for name in ("fvu", "l0", "train_fvu", "train_l0", "dead_share")},
        "n_rarefied": results[0].layer.n_rarefied,
        "bases": [_basis(result) for result in results],
        "trees": _trees(results[0]),
    }
    if is_first:
        found["probe"] = _probe(layers, run.block)
    stored: dict[str, Any] = plain(found)
    return stored | {"seconds": [round(seconds_to_train, 1), round(time.perf_counter() - start, 1)]}


def _rarefied(result: BasisResult, n_columns: int) -> BasisResult:
    return replace(result, layer=result.layer.rarefied_to(n_columns, result.n_reaching))


def _basis(result: BasisResult) -> dict[str, Any]:
    if result.resampled is None:
        raise RuntimeError("this basis has no replicates")
    numbers = {name: getattr(result.layer, name) for name in LAYER_NUMBERS}
    return {
        "basis": result.basis,
        "seed": result.seed,
        "layer": numbers | {"rarefied_node_share": result.layer.rarefied_node_share},
        "replicates": {
            metric: {"value": one.value, "n": one.n, "replicates": one.replicates.tolist()}
            for metric, one in result.resampled.replicates.items()
        },
    }


def _trees(sae: BasisResult) -> dict[str, Any]:
    trees = {} if sae.resampled is None else sae.resampled.trees
    return {
        metric: {"value": one.value, "mean": quantiles(one.shuffled)[0], "p": one.p} for metric, one in trees.items()
    }


def _probe(layers: RealLayers, block: int) -> dict[str, float]:
    found = class_information(
        layers.plain(block).numpy(), layers.labels, layers.taxonomy, layers.parts, ProbeConfig(n_path_shuffles=0)
    )
    levels = found.levels
    return {
        "accuracy": float(levels.probe_accuracy[-1]),
        "chance": float(levels.probe_chance[-1]),
        "nearest_accuracy": float(levels.nn_accuracy[-1]),
    }


def all_measured(layers: RealLayers, settings: Settings, keep: Path | None) -> list[dict[str, Any]]:
    """Measure all seeds of every block and keep each as a line; lines of the same settings are not measured again.

    Args:
        layers: the class tokens.
        settings: of the SAEs and the scoring.
        keep: a file that lines are read from and added to; None: nothing is kept.
    """
    lines = [] if keep is None or not keep.exists() else [json.loads(line) for line in keep.read_text().splitlines()]
    lines = [line for line in lines if line["settings"] == plain(asdict(settings))]
    for run in _runs(layers, settings):
        same = [line for line in lines if line["block"] == run.block]
        if any(line["seed"] == run.seed for line in same):
            continue
        first = [line["n_rarefied"] for line in same if line["seed"] == 0]
        line = measured(layers, run, settings, first[0] if first else None)
        print(f"  block {run.block}, seed {run.seed}: FVU {line['sae']['fvu']}, {line['seconds']} s", flush=True)
        lines.append(line)
        if keep is not None:
            with keep.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return lines


def _runs(layers: RealLayers, settings: Settings) -> Iterator[Run]:
    """Seed by seed, so that a run that is stopped has the same seeds of nearly all blocks."""
    return (Run(block, seed) for seed in range(settings.n_seeds) for block in sorted(layers.activations))


def described(layers: RealLayers, name: str, split: SplitConfig) -> dict[str, Any]:
    """The images and their parts."""
    parts = layers.parts
    return {
        "name": name,
        "n_views": N_VIEWS,
        "split": split.label,
        "n_classes": len(layers.taxonomy.classes),
        "n_train": len(parts.train),
        "n_select": len(parts.select),
        "n_score": len(parts.score),
    }


def main() -> None:
    keep_freed_memory()  # as in a job
    default = Settings()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder with a folder of images per class, named by wnid")
    parser.add_argument("backbone", type=Path, help="folder of the backbone")
    parser.add_argument("--seeds", type=int, default=default.n_seeds, help="SAEs per block (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=default.n_steps, help="of each training (default: %(default)s)")
    parser.add_argument("--blocks", type=int, nargs="+", metavar="N", help="blocks, from 0 (default: all)")
    parser.add_argument("--replicates", type=int, default=default.n_replicates, help="default: %(default)s")
    parser.add_argument(
        "--groups", nargs=2, metavar=("SELECT", "SCORE"),
        help="select and score on these groups, train on all others; a file's group is the second part of its name, as"
        " in dog.noto.png (default: shares of each class)",
    )  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add finished SAEs to this file; go on from it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    name = f"{arguments.images.resolve().name}, {arguments.backbone.resolve().name}"
    print_header(f"layers by basis: {name}", where, what)
    split = SplitConfig()
    if arguments.groups is not None:
        select, score = arguments.groups
        split = SplitConfig(groups=NamedGroups(select=(select,), score=(score,)))
    settings = Settings(
        n_seeds=arguments.seeds, n_steps=arguments.steps, n_replicates=arguments.replicates, split=split.label
    )
    data = RealData(name, arguments.images, arguments.backbone, split)
    try:
        blocks = None if arguments.blocks is None else tuple(arguments.blocks)
        layers = RealLayers.of(data, blocks)
        table = table_of(all_measured(layers, settings, arguments.keep), sorted(layers.activations))
    except UserError as error:
        raise SystemExit(str(error)) from error
    table["data"] = described(layers, name, split)
    print(markdown(table))
    not_measured = NOT_MEASURED if split.groups is not None else [*NOT_MEASURED, NO_GROUPS]
    print_report(rows_of(table), where, what, not_measured, table=table)


if __name__ == "__main__":
    main()
