"""A cross-fitted study as one reads it: the two halves of its images averaged, one line for each SAE."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hsae.report.headline_table import with_headlines

Row = dict[str, Any]
_Rows = Sequence[Mapping[str, Any]]
_Interval = tuple[float | None, float | None, float | None]
_Shuffled = tuple[float | None, float | None]
_OF_THE_FIRST = {"analysis_id", "layer"}
"""Numbers of a row that have no mean."""
_FROM_THE_COMPARISON = {"coherence_excess", "f1_adjusted_inner"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the figures and tables of a report are made of: one row for each SAE and layer.

    Attributes:
        analyses: with analysis_id, layer and `sae`, the SAE's name, by SAE and layer. Of averages the analysis is the
            first one, in whose name the comparison has its results.
        layers: rows of `with_headlines`, in the same order.
        intervals: value, low and high by analysis, basis and metric.
        shuffled: mean and 97.5 % quantile over shuffled taxonomies by analysis and metric.
        scores: rows of `node_null_rows`.
        is_averaged: whether they are means over the two halves of the images.
    """

    analyses: Sequence[Row]
    layers: Sequence[Row]
    intervals: Mapping[tuple[int, str, str], _Interval]
    shuffled: Mapping[tuple[int, str], _Shuffled]
    scores: Sequence[Row]
    is_averaged: bool = False


def averaged(single: Drawn, first_of: Mapping[int, int], names: Mapping[int, str], comparison: _Rows) -> Drawn:
    """The means over the analyses that the comparison takes as one, of halves and of seeds.

    Values and intervals of the headline numbers are those of the comparison. Shuffled taxonomies are averaged, their
    97.5 % quantiles too: shuffles of two halves are independent, so the quantile of the mean would be lower.

    Args:
        single: every analysis by itself.
        first_of: by analysis the first one of those that are taken as one.
        names: the name of the SAE by first analysis.
        comparison: rows of `comparison_scores`.
    """
    place = {number: at for at, number in enumerate(names)}
    analyses = [row | {"sae": names[row["analysis_id"]]} for row in single.analyses if row["analysis_id"] in names]
    analyses.sort(key=lambda row: place[row["analysis_id"]])
    intervals = {
        (row["analysis_id"], row["basis"], row["metric"]): (row["value"], row["ci_low"], row["ci_high"])
        for row in comparison
    }
    shuffled = {
        key: (_mean(one[0] for one in group), _mean(one[1] for one in group))
        for key, group in _grouped(
            ((first_of[number], metric), values)
            for (number, metric), values in single.shuffled.items()
            if number in first_of
        ).items()
    }
    of_layers = _grouped((first_of[row["analysis_id"]], row) for row in single.layers if row["analysis_id"] in first_of)
    layers = [
        with_headlines(
            _mean_row(of_layers[row["analysis_id"]]) | {"analysis_id": row["analysis_id"], "sae": row["sae"]},
            intervals,
            shuffled,
        )
        for row in analyses
        if row["analysis_id"] in of_layers
    ]
    of_nodes = _grouped(
        ((first_of[row["analysis_id"]], row["synset_id"]), row)
        for row in single.scores
        if row["analysis_id"] in first_of
    )
    fold_of = {row["analysis_id"]: (row["split"] or {}).get("fold", 0) for row in single.analyses}
    scores = [_mean_node(number, group, fold_of) for (number, _), group in of_nodes.items()]
    return Drawn(analyses, layers, intervals, shuffled, scores, is_averaged=True)


def _mean_row(group: _Rows) -> Row:
    """A row of means; what is no number, or the same in all rows, is that of the first."""
    found: Row = {}
    for name, first in group[0].items():
        values = [row.get(name) for row in group]
        numbers = all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values)
        is_same = all(value == first for value in values)
        is_mean = numbers and not is_same and name not in _OF_THE_FIRST
        if name not in _FROM_THE_COMPARISON:
            found[name] = _mean(values) if is_mean else first
    return found


def _mean_node(number: int, group: _Rows, fold_of: Mapping[int, int]) -> Row:
    """The best latents of a node, one of each half: mean F1 beside mean nulls, and the q of the less sure one."""
    of_half = {fold_of[row["analysis_id"]]: row["n_images"] for row in group}  # seeds score the same images
    baselines = list(dict.fromkeys(row["baseline"] for row in group if row["baseline"] is not None))
    qs = [row["q_node"] for row in group]
    return {
        **group[0],
        "analysis_id": number,
        "latent": " and ".join(str(row["latent"]) for row in group),
        **{name: _mean(row[name] for row in group) for name in ("f1", "f1_adjusted", "f1_adjusted_shuffled")},
        "f1_adjusted_baseline": _mean(row["f1_adjusted_baseline"] for row in group),
        "baseline": baselines[0] if len(baselines) == 1 else ("of each half" if baselines else None),
        "q_node": None if None in qs else max(qs),
        "n_images": sum(of_half.values()),
        "is_distinct": any(row["is_distinct"] is not False for row in group),
    }


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
