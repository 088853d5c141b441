"""The table layer x basis: measured lines, one per block and SAE seed, with the intervals of a study's comparison."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from hsae.catalog.findings.study_inputs import AnalysisRow, ReplicateRow
from hsae.hierarchy.study.estimates import Estimate, Interval, combine
from hsae.hierarchy.study.intervals import SAE, Column, compare_groups, slope_weights
from hsae.pipeline.stages.compare import SeedGroup, estimates, seed_groups
from hsae.sae.config import SaeConfig

METRICS = {
    "coherence_excess": "coherence excess, bits",
    "coherence_excess_weighted": "the same, by firings",
    "f1_adjusted_inner_mean": "adjusted F1 of inner nodes",
    "f1_adjusted_mean": "adjusted F1 of all nodes",
    "purity_mean": "purity",
    "lch_excess_mean": "LCH excess, bits",
}
"""The headline numbers that the table has, by what the pages call them."""
BASES = (
    SAE, "exemplar", "kmeans", "pca", "random", "neuron", "untrained", "shuffled_taxonomy", "shuffled_labels"
)  # fmt: skip
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured.

    Attributes:
        n_seeds: SAEs of every block, seeds 0, 1, ...; baselines and shuffled bases are those of seed 0.
        n_steps: of every training.
        k: latents that fire on a row.
        expansion: latents per dimension.
        n_replicates: replicates without a fifth of the classes.
        n_tree_shuffles: permutations of the tree for every SAE.
        n_shuffles: shuffled taxonomies, and shuffled labels, that are scored as bases.
        split: how the images are divided, in a few words.
    """

    n_seeds: int = 5
    n_steps: int = 1500
    k: int = 16
    expansion: int = 4
    n_replicates: int = 100
    n_tree_shuffles: int = 99
    n_shuffles: int = 2
    split: str = ""


def plain(value: Any, digits: int = 17) -> Any:
    """The same as JSON has it, floats with some significant digits, by default all: null for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): plain(one, digits) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, digits) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value


def table_of(lines: Sequence[dict[str, Any]], blocks_wanted: Sequence[int]) -> dict[str, Any]:
    """The table of the lines.

    Every number of a basis is the mean over its seeds (of the SAE) or draws; `low` and `high` bound its 95 % interval.

    Args:
        lines: measured SAEs of the same settings.
        blocks_wanted: the blocks that were asked for; what is not among the lines is listed as missing.
    """
    lines = sorted(lines, key=lambda line: (line["block"], line["seed"]))
    settings = Settings(**lines[0]["settings"])
    rows = [_analysis(number, line, settings) for number, line in enumerate(lines)]
    groups = seed_groups(rows)
    found = estimates(groups, {row.id: _replicates(line) for row, line in zip(rows, lines, strict=True)})
    blocks = {group.number: group.layer for group, _ in groups}
    scores, differences, _ = compare_groups([one.group for one in groups], found, CONFIDENCE)
    of_block = {block: [line for line in lines if line["block"] == block] for block in sorted(blocks.values())}
    table: dict[str, Any] = plain({
        "settings": asdict(settings),
        "confidence": CONFIDENCE,
        "missing": _missing(of_block, blocks_wanted, settings),
        "blocks": [_block(block, of_it) for block, of_it in of_block.items()],
        "bases": [
            {"block": blocks[one.analysis], "basis": one.basis, "metric": one.metric}
            | _interval(Interval(one.value, one.low, one.high, one.n_seeds))
            | {"n": one.n}
            for one in scores
            if one.metric in METRICS
        ],
        "bases_without_interval": [row for block in of_block for row in _without_interval(block, of_block[block])],
        "sae_minus_basis": [
            {"block": blocks[one.analysis], "basis": one.other_basis, "metric": one.metric}
            | _interval(Interval(one.value, one.low, one.high, one.n_seeds))
            for one in differences
            if one.metric in METRICS and one.analysis == one.other_analysis
        ],
        "slopes_per_block": list(_slopes(groups, found)),
    }, digits=6)  # fmt: skip
    return table


def _analysis(number: int, line: dict[str, Any], settings: Settings) -> AnalysisRow:
    config = SaeConfig(kind="topk", k=settings.k, expansion=settings.expansion, seed=line["seed"])
    return AnalysisRow(number, f"{number:06}", line["block"], config.model_dump(mode="json"), "", "")


def _replicates(line: dict[str, Any]) -> list[ReplicateRow]:
    return [
        ReplicateRow(basis["basis"], basis["seed"], metric, one["value"], one["n"], one["replicates"])
        for basis in line["bases"]
        for metric, one in basis["replicates"].items()
    ]


def _missing(of_block: dict[int, list[dict[str, Any]]], blocks_wanted: Sequence[int], settings: Settings) -> list[str]:
    """What was asked for and not measured."""
    return [
        f"block {block}, seed {seed}"
        for block in blocks_wanted
        for seed in sorted(set(range(settings.n_seeds)) - {line["seed"] for line in of_block.get(block, [])})
    ]


def _block(block: int, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a block has once: its SAEs' figures, its probe, and the shuffled trees beside its SAEs."""
    figures = {
        name: {"mean": fmean(values) if values else None, "sd": stdev(values) if len(values) > 1 else None}
        for name in lines[0]["sae"]
        for values in [[line["sae"][name] for line in lines if line["sae"][name] is not None]]
    }
    trees = {
        metric: {
            "value": fmean(line["trees"][metric]["value"] for line in lines),
            "shuffled_mean": fmean(line["trees"][metric]["mean"] for line in lines),
            "greatest_p": max(line["trees"][metric]["p"] for line in lines),
        }
        for metric in lines[0]["trees"]
        if metric in METRICS and all(line["trees"][metric]["p"] is not None for line in lines)
    }
    probes = [line["probe"] for line in lines if "probe" in line]
    return {
        "block": block,
        "seeds": [line["seed"] for line in lines],
        "sae": figures,
        "probe": probes[0] if probes else None,
        "shuffled_trees": trees,
        "n_rarefied": lines[0]["n_rarefied"],
    }


def _without_interval(block: int, lines: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The means of the numbers that have no replicates, with their standard deviation over the SAE's seeds."""
    for basis in BASES:
        by_seed = [[one["layer"] for one in line["bases"] if one["basis"] == basis] for line in lines]
        by_seed = [draws for draws in by_seed if draws]
        if not by_seed:
            continue
        row: dict[str, Any] = {"block": block, "basis": basis, "n_seeds": len(by_seed)}
        for name in by_seed[0][0]:
            values = [fmean(draw[name] for draw in draws) for draws in by_seed if _all_there(draws, name)]
            row[name] = fmean(values) if values else None
            if name in ("rarefied_node_share", "q_node_share"):
                row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
        yield row


def _all_there(draws: Sequence[dict[str, Any]], name: str) -> bool:
    return all(draw[name] is not None for draw in draws)


def _slopes(groups: Sequence[SeedGroup], found: dict[str, dict[Column, Estimate]]) -> Iterator[dict[str, Any]]:
    """Of every basis the slope over the blocks, and that of the SAE minus the basis."""
    for metric in METRICS:
        columns = found.get(metric, {})
        for basis in BASES:
            known = [one.group for one in groups if (one.group.number, basis) in columns]
            if len(known) < 2:
                continue
            weights = slope_weights([group.layer for group in known])
            of_basis = [(weight, columns[group.number, basis]) for weight, group in zip(weights, known, strict=True)]
            row = {"metric": metric, "basis": basis, "n_blocks": len(known)}
            yield row | {"what": "slope"} | _interval(combine(of_basis, CONFIDENCE))
            if basis != SAE:
                of_sae = [(weight, columns[group.number, SAE]) for weight, group in zip(weights, known, strict=True)]
                less = [(-weight, one) for weight, one in of_basis]
                yield row | {"what": "slope of sae minus slope"} | _interval(combine(of_sae + less, CONFIDENCE))


def _interval(found: Interval) -> dict[str, Any]:
    return {"value": found.value, "low": found.low, "high": found.high, "n_seeds": found.n_seeds}
