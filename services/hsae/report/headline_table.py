"""The first table of a study: each layer's headline numbers beside the strongest baseline and the shuffled taxonomy."""

from collections.abc import Mapping
from typing import Any

from hsae.vocabulary.bases import BASELINES

Row = dict[str, Any]
_Interval = tuple[float | None, float | None, float | None]

COHERENCE, INNER_F1 = "coherence_excess", "f1_adjusted_inner_mean"
OF_TREE = {
    "coherence_excess": COHERENCE,
    "f1_adjusted_inner": INNER_F1,
    "lch_excess": "lch_excess_mean",
    "lch_height_raw": "lch_height_mean",
    "coverage_raw": "coverage_mean",
    "best_f1_adjusted": "f1_adjusted_mean",
    "best_f1_adjusted_inner": INNER_F1,
    "best_f1_adjusted_pair": "best_f1_adjusted_pair_mean",
    "best_f1_adjusted_single": "best_f1_adjusted_single_mean",
    "best_f1_raw": "best_f1_mean",
    "best_f1_inner_raw": "best_f1_inner_mean",
    "share_nodes_f1_raw": "share_nodes_f1",
}
"""Numbers of a row that have values under shuffled taxonomies, and what these are called in the catalog."""
_SCORED_AS = {"f1_adjusted_inner": "best_f1_adjusted_inner"}
"""What the same number is called in the rows of the bases, where that differs."""
BY_CHANCE = "?"
"""Stands behind a number that is not above the 97.5 % quantile of the shuffled taxonomies."""


def with_headlines(
    row: Mapping[str, Any],
    intervals: Mapping[tuple[int, str, str], _Interval],
    shuffled: Mapping[tuple[int, str], tuple[float | None, float | None]],
) -> Row:
    """A row of `beside_controls` with intervals, the best baseline and the shuffled taxonomy.

    Args:
        row: the row.
        intervals: value, low and high by analysis, basis and metric.
        shuffled: mean and 97.5 % quantile over shuffled taxonomies by analysis and metric.

    Returns:
        The row with `coherence_excess_low`, `coherence_excess_high`, the same of `f1_adjusted_inner` (and its value)
        and of the exemplars' coherence; `best_baseline` and `f1_adjusted_inner_best_baseline`, by adjusted inner F1;
        and what shuffled taxonomies give, as mean (`f1_adjusted_inner_tree`) and quantile (`..._tree_q975`), for the
        coherence, the F1 of the nodes, the LCH excess, and the paper's LCH height and coverage. Where none were drawn
        for that (`shuffled`), the mean is that of the few that are scored in full, if the row has it.
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
    for name, metric in OF_TREE.items():
        scored_few = (row.get(f"{_SCORED_AS.get(name, name)}_shuffled_taxonomy"), None)
        found[f"{name}_tree"], found[f"{name}_tree_q975"] = shuffled.get((number, metric), scored_few)
    return {**row, **found}


def headline_cells(row: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    """The cells of the table as text: numbers with half of their interval, the best baseline with its name.

    Inner F1 is above 0 by chance, and its interval does not know that. It has a mark (`BY_CHANCE`) where it is not
    above the greatest values of shuffled taxonomies, which stand beside it.

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
        "inner_f1": _with_mark(row, "f1_adjusted_inner"),
        "baseline": None if best is None else f"{row['f1_adjusted_inner_best_baseline']:.2f} {names.get(best, best)}",
        "tree": _up_to(row, "f1_adjusted_inner_tree"),
    }


def _with_interval(row: Mapping[str, Any], name: str) -> str | None:
    value, low, high = (row.get(f"{name}{end}") for end in ("", "_low", "_high"))
    if value is None:
        return None
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f} ±{(high - low) / 2:.2f}"


def _with_mark(row: Mapping[str, Any], name: str) -> str | None:
    shown, value, greatest = _with_interval(row, name), row.get(name), row.get(f"{name}_tree_q975")
    if shown is None or greatest is None:
        return shown
    return f"{shown} {BY_CHANCE}" if value <= greatest else shown


def _up_to(row: Mapping[str, Any], name: str) -> str | None:
    mean, greatest = row.get(name), row.get(f"{name}_q975")
    if mean is None:
        return None
    return f"{mean:.2f}" if greatest is None else f"{mean:.2f} to {greatest:.2f}"
