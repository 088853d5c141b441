"""Every kind of SAE beside the baselines: held-out FVU and L0 against what the latents say of the taxonomy.

Class tokens of one block; every kind is trained at several L0s from several seeds, on the images that train. FVU and L0
are those of the scored images, which neither trained nor chose, and so are coherence excess and adjusted F1 of inner
nodes. Baselines have the densities of the first TopK SAE of each L0. No measurement of time.
"""

import argparse
import json
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # as in the workers; read when torch is loaded

import torch
from benchmarks.findings.layer_table import plain
from benchmarks.findings.real_layers import RealData, RealLayers
from benchmarks.measure import Row, machine, print_header, print_report, versions

from hsae.demo import backbone_folder, images_folder
from hsae.errors import UserError
from hsae.hierarchy.basis_result import BasisResult
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.resampling.resampled import Headline
from hsae.hierarchy.score_bases import score_bases
from hsae.pipeline.execution.freed_memory import keep_freed_memory
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.variants import VARIANTS
from hsae.split_config import NamedGroups, SplitConfig
from hsae.vocabulary.bases import BASELINES

COUNTS = ("k", "target_l0")
"""How a kind is told its L0, if one number tells it."""
NESTED = "matryoshka_topk"
"""Keeps several ks; the greatest is its L0, the others are its halves."""
SCORES = {
    "coherence_excess": "coherence excess, bits",
    "f1_adjusted_inner_mean": "adjusted inner F1",
}
WITH_BASELINES = "topk"
_HEADLINES: tuple[Headline, ...] = ("coherence_excess", "f1_adjusted_inner_mean")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is trained."""

    block: int
    expansion: int
    n_steps: int
    n_seeds: int
    split: str


@dataclass(frozen=True, slots=True)
class Run:
    """One SAE."""

    kind: str
    l0: int
    seed: int


def config_of(run: Run, settings: Settings) -> SaeConfig:
    """Defaults, but for the sizes and the number of latents that fire."""
    own: dict[str, Any] = {name: run.l0 for name in COUNTS if name in VARIANTS[run.kind].settings()}
    if run.kind == NESTED:
        own = {"ks": ",".join(str(max(1, run.l0 // part)) for part in (4, 2, 1))}
    return SaeConfig(kind=run.kind, expansion=settings.expansion, n_steps=settings.n_steps, seed=run.seed, **own)


def measured(layers: RealLayers, run: Run, settings: Settings) -> dict[str, Any]:
    """The numbers of one SAE, and with the first TopK SAE of an L0 those of the baselines."""
    trained = layers.train(settings.block, config_of(run, settings))
    has_baselines = run.kind == WITH_BASELINES and run.seed == 0
    scoring = ScoringConfig(
        n_shuffles=0, n_replicates=20, n_tree_shuffles=99, controls=BASELINES if has_baselines else ()
    )
    results = score_bases(layers.scored(settings.block, trained.sae), layers.images(), scoring)
    fvu, l0, dead = fit_of(trained.sae, layers, settings.block)
    found = {
        **asdict(run),
        "settings": asdict(settings),
        "fvu": fvu,
        "measured_l0": l0,
        "silent_share": dead,
        **scores_of(results[0]),
        "baselines": [{"basis": one.basis, "seed": one.seed} | scores_of(one) for one in results[1:]],
    }
    stored: dict[str, Any] = plain(found)
    return stored


def fit_of(sae: SparseAutoencoder, layers: RealLayers, block: int) -> tuple[float, float, float]:
    """FVU, L0 and the share of latents that fire on no image, over the scored images."""
    x = layers.plain(block)[torch.from_numpy(layers.parts.score)]
    with torch.inference_mode():
        z = sae.encode(x)
        residual = (x - sae.decode(z)).double().square().sum()
    fires = z > 0
    total = (x - x.mean(dim=0)).double().square().sum()
    silent = 1 - float(torch.any(fires, dim=0).double().mean())
    return float(residual / total), float(fires.sum(dim=1).double().mean()), silent


def scores_of(result: BasisResult) -> dict[str, float | None]:
    """The headline numbers of a basis."""
    if result.resampled is None:
        raise RuntimeError("this basis has no replicates")
    return {name: result.resampled.replicates[name].value for name in _HEADLINES}


def all_measured(
    layers: RealLayers, settings: Settings, runs: Sequence[Run], keep: Path | None
) -> list[dict[str, Any]]:
    """Measure every run and keep each as a line; lines of the same settings are not measured again."""
    lines = [] if keep is None or not keep.exists() else [json.loads(line) for line in keep.read_text().splitlines()]
    lines = [line for line in lines if line["settings"] == plain(asdict(settings))]
    done = {Run(line["kind"], line["l0"], line["seed"]) for line in lines}
    for run in runs:
        if run in done:
            continue
        line = measured(layers, run, settings)
        print(f"  {run}: FVU {line['fvu']:.4f}, L0 {line['measured_l0']:.1f}", flush=True)
        lines.append(line)
        if keep is not None:
            with keep.open("a") as file:
                file.write(json.dumps(line) + "\n")
    return lines


def table_of(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Means and standard deviations over seeds, of kinds and then of baselines, by L0."""
    found = []
    for l0 in sorted({line["l0"] for line in lines}):
        of_l0 = [line for line in lines if line["l0"] == l0]
        for kind in dict.fromkeys(line["kind"] for line in of_l0):
            same = [line for line in of_l0 if line["kind"] == kind]
            numbers = ("fvu", "measured_l0", "silent_share", *SCORES)
            found.append({"name": kind, "l0": l0, "n_seeds": len(same)} | _over_seeds(same, numbers))
        baselines = [one for line in of_l0 for one in line["baselines"]]
        for basis in dict.fromkeys(one["basis"] for one in baselines):
            same = [one for one in baselines if one["basis"] == basis]
            found.append({"name": f"baseline {basis}", "l0": l0, "n_seeds": len(same)} | _over_seeds(same, SCORES))
    table: list[dict[str, Any]] = plain(found, digits=6)
    return table


def _over_seeds(same: Sequence[Mapping[str, Any]], names: Sequence[str] | Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        values = [one[name] for one in same if one[name] is not None]
        found[name] = statistics.fmean(values) if values else None
        found[f"{name}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    return found


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The table for docs/sae.md."""
    lines = [
        "| aimed L0 | SAE or baseline | L0 | FVU | silent | " + " | ".join(SCORES.values()) + " |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        cells = [_number(row.get("measured_l0"), 1), _number(row.get("fvu"), 3), _number(row.get("silent_share"), 2)]
        for name in SCORES:
            spread = row[f"{name}_sd"]
            cells.append(_number(row[name], 3) + ("" if spread is None else f" ± {spread:.3f}"))
        lines.append(f"| {row['l0']} | {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def rows_of(table: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """One row for each number."""
    for row in table:
        for name in ("fvu", "measured_l0", *SCORES):
            if row.get(name) is not None:
                yield Row(f"{row['name']} at L0 {row['l0']}: {SCORES.get(name, name)}", row[name], "")


def main() -> None:
    keep_freed_memory()  # as in a job
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=images_folder(), help="a folder per class (default: the demo's)")
    parser.add_argument("--backbone", type=Path, default=backbone_folder(), help="its folder (default: the demo's)")
    parser.add_argument("--block", type=int, default=5, help="from 0 (default: %(default)s)")
    parser.add_argument("--groups", nargs=2, metavar=("SELECT", "SCORE"), default=("noto", "fxemoji"))
    parser.add_argument("--l0", type=int, nargs="+", default=[8, 16, 32], help="(default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="(default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="of every kind and L0 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=600, help="of each training (default: %(default)s)")
    parser.add_argument("--expansion", type=int, default=4, help="latents per dimension (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="add finished SAEs to this file; go on from it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    where, what = machine(), versions()
    name = f"{arguments.images.resolve().name}, {arguments.backbone.resolve().name}, block {arguments.block}"
    print_header(f"kinds of SAEs: {name}", where, what)
    select, score = arguments.groups
    split = SplitConfig(groups=NamedGroups(select=(select,), score=(score,)))
    settings = Settings(arguments.block, arguments.expansion, arguments.steps, arguments.seeds, split.label)
    runs = [Run(kind, l0, seed) for seed in range(arguments.seeds) for l0 in arguments.l0 for kind in arguments.kinds]
    try:
        layers = RealLayers.of(RealData(name, arguments.images, arguments.backbone, split), (arguments.block,))
        table = table_of(all_measured(layers, settings, runs, arguments.keep))
    except UserError as error:
        raise SystemExit(str(error)) from error
    print(markdown(table))
    parts = layers.parts
    data = {
        "name": name, "n_classes": len(layers.taxonomy.classes),
        "n_train": len(parts.train), "n_select": len(parts.select), "n_score": len(parts.score),
    }  # fmt: skip
    not_measured = ["other blocks, widths and numbers of steps; patch tokens"]
    print_report(
        list(rows_of(table)), where, what, not_measured,
        table={"data": data, "settings": asdict(settings), "rows": table},
    )  # fmt: skip


if __name__ == "__main__":
    main()
