"""Quantities, differences and trends of the analyses of a study: against controls, between layers, between SAEs.

The choice of quantities and differences is ours. docs/metrics.md says what the intervals cover.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

from hsae.hierarchy.study.estimates import Estimate, combine

SAE = "sae"
"""The basis of the trained SAE; all other bases are its controls."""

Column = tuple[int, str]
"""Number of a group and basis."""


class ComparedGroup(NamedTuple):
    """The analyses of one SAE configuration at one layer, one per seed of the SAE and fold of the images.

    Attributes:
        number: the number of the analysis of the smallest seed and the first fold, in whose name results stand.
        key: its content address.
        layer: the layer.
        sae: a text that identifies the SAE configuration without its seed.
    """

    number: int
    key: str
    layer: int
    sae: str


class Score(NamedTuple):
    """One quantity of one basis with its interval; the mean of `n` nodes or latents."""

    analysis: int
    basis: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    n_seeds: int
    n_folds: int = 1


class Difference(NamedTuple):
    """One quantity of a basis minus that of another; `n` is the smaller of their numbers of nodes or latents."""

    metric: str
    analysis: int
    basis: str
    other_analysis: int
    other_basis: str
    value: float
    low: float
    high: float
    n: int
    n_seeds: int
    n_folds: int = 1


class Trend(NamedTuple):
    """Least-squares slope of one quantity of an SAE configuration over its layers, per layer."""

    metric: str
    analysis: int
    slope: float
    low: float
    high: float
    n_layers: int
    n_seeds: int
    n_folds: int = 1


def compared_pairs(groups: Sequence[ComparedGroup], columns: Sequence[Column]) -> Iterator[tuple[Column, Column]]:
    """All pairs (minuend, subtrahend) whose difference is computed.

    Every SAE minus each control of its analysis; every layer minus the previous layer of the same SAE configuration; at
    each layer, every SAE configuration minus those before it in the order of their texts.
    """
    ordered = _ordered(groups)
    for group in ordered:
        for number, basis in columns:
            if number == group.number and basis != SAE:
                yield (number, SAE), (number, basis)
    by_layer: dict[int, list[int]] = {}
    for group in ordered:
        by_layer.setdefault(group.layer, []).append(group.number)
    for layers in _by_sae(groups).values():
        for previous, group in pairwise(layers):
            yield (group.number, SAE), (previous.number, SAE)
    for numbers in by_layer.values():
        for other, number in combinations(numbers, 2):
            yield (number, SAE), (other, SAE)


def compare_groups(
    groups: Sequence[ComparedGroup],
    estimates: Mapping[str, Mapping[Column, Estimate]],
    confidence: float,
) -> tuple[list[Score], list[Difference], list[Trend]]:
    """Every quantity of every basis, every difference and every trend, with intervals.

    Args:
        groups: analyses of the same images and taxonomy, grouped by layer and SAE configuration.
        estimates: by metric, group and basis.
        confidence: confidence of the intervals, such as 0.95.
    """
    scores: list[Score] = []
    differences: list[Difference] = []
    trends: list[Trend] = []
    for metric, found in estimates.items():
        for (number, basis), one in found.items():
            value, low, high, *runs = combine([(1.0, one)], confidence)
            scores.append(Score(number, basis, metric, value, low, high, one.n, *runs))
        for left, right in compared_pairs(groups, list(found)):
            if left in found and right in found:
                one, other = found[left], found[right]
                value, low, high, *runs = combine([(1.0, one), (-1.0, other)], confidence)
                n = min(one.n, other.n)
                differences.append(Difference(metric, *left, *right, value, low, high, n, *runs))
        trends += _trends(metric, groups, found, confidence)
    return scores, differences, trends


def _trends(
    metric: str, groups: Sequence[ComparedGroup], found: Mapping[Column, Estimate], confidence: float
) -> Iterator[Trend]:
    """One per SAE configuration with two layers or more."""
    for layers in _by_sae(groups).values():
        known = [group for group in layers if (group.number, SAE) in found]
        if len(known) < 2:
            continue
        weights = slope_weights([group.layer for group in known])
        terms = [(weight, found[group.number, SAE]) for weight, group in zip(weights, known, strict=True)]
        slope, low, high, *runs = combine(terms, confidence)
        yield Trend(metric, known[0].number, slope, low, high, len(known), *runs)


def slope_weights(layers: Sequence[int]) -> list[float]:
    """The weight of every layer in a least-squares slope over them; there are two different layers or more."""
    mean = sum(layers) / len(layers)
    spread = sum((layer - mean) ** 2 for layer in layers)
    return [(layer - mean) / spread for layer in layers]


def _ordered(groups: Sequence[ComparedGroup]) -> list[ComparedGroup]:
    return sorted(groups, key=lambda group: (group.layer, group.sae, group.key))


def _by_sae(groups: Sequence[ComparedGroup]) -> dict[str, list[ComparedGroup]]:
    """The layers of every SAE configuration, ascending."""
    found: dict[str, list[ComparedGroup]] = {}
    for group in _ordered(groups):
        found.setdefault(group.sae, []).append(group)
    return found
