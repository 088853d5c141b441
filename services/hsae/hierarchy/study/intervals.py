"""Quantities and differences of the analyses of a study: against controls, between layers, between SAEs.

The choice of quantities and differences is ours. docs/metrics.md says what the intervals cover.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from hsae.hierarchy.study.bootstrap import mean_of, percentile_interval, resampled_means

SAE = "sae"
"""The basis of the trained SAE; all other bases are its controls."""

LATENT_METRICS = {
    "lch_height": "lch_height_mean",
    "coverage": "coverage_mean",
    "monosemanticity": "monosemanticity_mean",
    "class_entropy": "class_entropy_mean",
    "label_f1": "label_f1_mean",
}
"""Score of a latent, and the name of its mean over the latents."""

NODE_METRICS = ("best_f1_mean", "best_f1_inner_mean", "share_nodes_f1")

_PAIRS_PER_BLOCK = 1000

Column = tuple[int, str]
"""Analysis and basis."""


class ComparedAnalysis(NamedTuple):
    """An analysis: its number, its content address, its layer, and a text that identifies the SAE configuration."""

    number: int
    key: str
    layer: int
    sae: str


@dataclass(frozen=True, slots=True, eq=False)
class NodeValues:
    """Values of every node that is compared, one column per analysis and basis.

    Attributes:
        columns: analysis and basis of every column.
        f1: best F1 of any latent, 0 where none fires; for a shuffled basis the mean over its seeds.
        answered: 1 where the best F1 is at least 0.5, otherwise 0; for a shuffled basis the mean over its seeds.
        is_inner: true for nodes with three or more classes.
    """

    columns: Sequence[Column]
    f1: Float64[np.ndarray, "n_nodes n_columns"]
    answered: Float64[np.ndarray, "n_nodes n_columns"]
    is_inner: Bool[np.ndarray, "n_nodes"]


class Score(NamedTuple):
    """One quantity of one basis with its interval; the mean of `n` nodes or latents."""

    analysis: int
    basis: str
    metric: str
    value: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """One quantity of a basis minus that of another; `n` nodes, or the smaller of the two numbers of latents."""

    metric: str
    analysis: int
    basis: str
    other_analysis: int
    other_basis: str
    value: float
    low: float
    high: float
    n: int


class _Resampled(NamedTuple):
    value: float
    means: Float64[np.ndarray, "n_resamples"]
    n: int


def compared_pairs(analyses: Sequence[ComparedAnalysis], columns: Sequence[Column]) -> Iterator[tuple[Column, Column]]:
    """All pairs (minuend, subtrahend) whose difference is computed.

    Every SAE minus each control of its analysis; every layer minus the previous layer of the same SAE configuration; at
    each layer, every SAE configuration minus those before it in the order of their texts.
    """
    ordered = sorted(analyses, key=lambda analysis: (analysis.layer, analysis.sae, analysis.key))
    for analysis in ordered:
        for number, basis in columns:
            if number == analysis.number and basis != SAE:
                yield (number, SAE), (number, basis)
    by_sae: dict[str, list[int]] = {}
    by_layer: dict[int, list[int]] = {}
    for analysis in ordered:
        by_sae.setdefault(analysis.sae, []).append(analysis.number)
        by_layer.setdefault(analysis.layer, []).append(analysis.number)
    for numbers in by_sae.values():
        for previous, number in pairwise(numbers):
            yield (number, SAE), (previous, SAE)
    for numbers in by_layer.values():
        for other, number in combinations(numbers, 2):
            yield (number, SAE), (other, SAE)


def compare_analyses(
    analyses: Sequence[ComparedAnalysis],
    nodes: NodeValues,
    latents_of: Callable[[int], Mapping[str, Mapping[str, Float64[np.ndarray, "n_latents"]]]],
    *,
    seed: int,
    n_resamples: int,
    confidence: float,
    on_analysis: Callable[[int], None],
) -> tuple[list[Score], list[Difference]]:
    """Every quantity of every basis, and every difference, with percentile bootstrap intervals.

    All bases of all analyses use the same draws of nodes, so differences over nodes are paired. Latents of two bases do
    not correspond: each basis has its own draws, seeded by the seed, the analysis' key and the basis.

    Args:
        analyses: analyses of the same images and taxonomy; one per layer and SAE configuration.
        nodes: values of the nodes; the columns include the basis `sae` of every analysis.
        latents_of: returns, for the number of an analysis, the values of its latents by basis and score (those of
            `LATENT_METRICS`), NaN where undefined; a basis without latents of its own may be missing.
        seed: seed of the draws.
        n_resamples: number of resamples per interval.
        confidence: confidence of the intervals, such as 0.95.
        on_analysis: called with the number of analyses whose latents are finished; may raise to stop.

    Raises:
        UserError: as for `resampled_means` and `percentile_interval`.
    """
    scores: list[Score] = []
    differences: list[Difference] = []
    pairs = list(compared_pairs(analyses, nodes.columns))
    inner = nodes.is_inner
    for metric, values in zip(NODE_METRICS, (nodes.f1, nodes.f1[inner], nodes.answered), strict=True):
        means = resampled_means(values, n_resamples=n_resamples, seed=seed)
        of_metric = {
            column: _Resampled(float(value), means[:, place], len(values))
            for place, (column, value) in enumerate(zip(nodes.columns, mean_of(values), strict=True))
        }
        scores += _scores(metric, of_metric, confidence)
        differences += _differences(metric, of_metric, pairs, confidence)
    between = [(one, other) for one, other in pairs if one[0] != other[0]]
    kept: dict[str, dict[Column, _Resampled]] = {metric: {} for metric in LATENT_METRICS.values()}
    for n_done, analysis in enumerate(analyses, start=1):
        of_analysis = _resampled_latents(analysis, latents_of(analysis.number), n_resamples, seed)
        within = [pair for pair in pairs if pair[0][0] == pair[1][0] == analysis.number]
        for metric, of_metric in of_analysis.items():
            scores += _scores(metric, of_metric, confidence)
            differences += _differences(metric, of_metric, within, confidence)
            kept[metric] |= {column: found for column, found in of_metric.items() if column[1] == SAE}
        on_analysis(n_done)
    for metric, of_metric in kept.items():
        differences += _differences(metric, of_metric, between, confidence)
    return scores, differences


def _resampled_latents(
    analysis: ComparedAnalysis,
    latents: Mapping[str, Mapping[str, Float64[np.ndarray, "n_latents"]]],
    n_resamples: int,
    seed: int,
) -> dict[str, dict[Column, _Resampled]]:
    """Resampled means by metric and column; latents for which a score is undefined are left out."""
    found: dict[str, dict[Column, _Resampled]] = {metric: {} for metric in LATENT_METRICS.values()}
    for basis, columns in latents.items():
        own = [seed, int.from_bytes(hashlib.sha256(f"{analysis.key} {basis}".encode()).digest()[:16], "big")]
        # Scores that are defined for the same latents are resampled together.
        by_mask: dict[bytes, list[str]] = {}
        for name, values in columns.items():
            by_mask.setdefault(np.isnan(values).tobytes(), []).append(name)
        for names in by_mask.values():
            defined = ~np.isnan(columns[names[0]])
            table = np.stack([columns[name][defined] for name in names], axis=1)
            means = resampled_means(table, n_resamples=n_resamples, seed=own)
            for place, (name, value) in enumerate(zip(names, mean_of(table), strict=True)):
                column = _Resampled(float(value), means[:, place], len(table))
                found[LATENT_METRICS[name]][analysis.number, basis] = column
    return found


def _scores(metric: str, found: Mapping[Column, _Resampled], confidence: float) -> list[Score]:
    if not found:
        return []
    bounds = percentile_interval(np.stack([one.means for one in found.values()], axis=1), confidence)
    return [
        Score(number, basis, metric, one.value, float(low), float(high), one.n)
        for ((number, basis), one), low, high in zip(found.items(), *bounds, strict=True)
    ]


def _differences(
    metric: str, found: Mapping[Column, _Resampled], pairs: Sequence[tuple[Column, Column]], confidence: float
) -> list[Difference]:
    """The differences of all pairs for which both sides have the metric."""
    known = [(pair, found[pair[0]], found[pair[1]]) for pair in pairs if pair[0] in found and pair[1] in found]
    rows = []
    for start in range(0, len(known), _PAIRS_PER_BLOCK):
        block = known[start : start + _PAIRS_PER_BLOCK]
        apart = np.stack([one.means - other.means for _, one, other in block], axis=1)
        for ((left, right), one, other), low, high in zip(block, *percentile_interval(apart, confidence), strict=True):
            value, n = one.value - other.value, min(one.n, other.n)
            rows.append(Difference(metric, *left, *right, value, float(low), float(high), n))
    return rows
