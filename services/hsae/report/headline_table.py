"""The first table of a study: each layer's headline numbers beside the strongest baseline and the shuffled taxonomy."""

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
_Interval = tuple[float | None, float | None, float | None]

BASELINES = ("exemplar", "kmeans", "pca", "random", "neuron", "untrained")
"""What an SAE must beat: made without labels, at the SAE's own densities."""

COHERENCE, INNER_F1 = "coherence_excess", "f1_adjusted_inner_mean"


def with_headlines(
    row: Mapping[str, Any],
    intervals: Mapping[tuple[int, str, str], _Interval],
    shuffled: Mapping[tuple[int, str], float | None],
) -> Row:
    """A row of `beside_controls` with intervals, the best baseline and the shuffled taxonomy.

    Args:
        row: the row.
        intervals: value, low and high by analysis, basis and metric.
        shuffled: means over shuffled taxonomies by analysis and metric.

    Returns:
        The row with `coherence_excess_low`, `coherence_excess_high`, the same of `f1_adjusted_inner` (and its value)
        and of the exemplars' coherence; `best_baseline` and `f1_adjusted_inner_best_baseline`, by adjusted inner F1;
        and `f1_adjusted_inner_tree`.
    """
    number = row["analysis_id"]
    found: Row = {}
    for name, basis, metric in (
        ("coherence_excess", "sae", COHERENCE),
        ("coherence_excess_exemplar", "exemplar", COHERENCE),
        ("f1_adjusted_inner", "sae", INNER_F1),
    ):
        value, low, high = intervals.get((number, basis, metric), (None, None, None))
        found |= {name: row.get(name, value), f"{name}_low": low, f"{name}_high": high}
    reached = {basis: intervals.get((number, basis, INNER_F1), (None,))[0] for basis in BASELINES}
    best = max(
        (basis for basis in BASELINES if reached[basis] is not None), key=lambda b: reached[b] or 0, default=None
    )
    found["best_baseline"] = best
    found["f1_adjusted_inner_best_baseline"] = None if best is None else reached[best]
    found["f1_adjusted_inner_tree"] = shuffled.get((number, INNER_F1))
    return {**row, **found}


def headline_cells(row: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """The cells of the table as text: numbers with half of their interval, the best baseline with its name.

    Args:
        row: from `with_headlines`.
        names: of the bases, for people.
    """
    best = row.get("best_baseline")
    return {
        "layer": row["layer"],
        "fvu": row["fvu"],
        "holdout_l0": row["holdout_l0"],
        "coherence": _with_interval(row, "coherence_excess"),
        "exemplars": _with_interval(row, "coherence_excess_exemplar"),
        "inner_f1": _with_interval(row, "f1_adjusted_inner"),
        "baseline": None if best is None else f"{row['f1_adjusted_inner_best_baseline']:.2f} {names.get(best, best)}",
        "tree": row.get("f1_adjusted_inner_tree"),
    }


def _with_interval(row: Mapping[str, Any], name: str) -> str | None:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ±{(high - low) / 2:.2f}"
