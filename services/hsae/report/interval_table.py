"""Quantities and differences of a comparison as tables, with intervals; a mark where an interval excludes 0."""

from collections.abc import Mapping, Sequence
from typing import Any

from hsae.hierarchy.config import MIN_PURE_CLASSES

Row = dict[str, Any]

GAIN, LOSS = "*", "!"
"""Stand behind a difference whose interval lies above 0, or below."""
PURITY = "purity_mean"
NO_PURITY_INTERVAL = (
    f"Purity has no interval where fewer than {MIN_PURE_CLASSES} classes have two images among the strongest of some"
    " latent: it would be too narrow, so no difference in purity counts as shown there."
)
"""Why a mean purity has no interval; docs/metrics.md has the measurements."""


def beside_differences(scores: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per analysis with the quantities and differences of one metric.

    Args:
        scores: rows with analysis_id, layer, sae, basis, value, ci_low, ci_high and n.
        differences: rows with analysis_id, other_analysis_id, other_basis, other_layer, value and is_apart.

    Returns:
        Rows with layer, sae, n, `value` and `interval` of the SAE, `minus_<basis>` for every control of the same
        analysis and `minus_layer_before`; differences as text, with a mark where their interval excludes 0.
    """
    rows: dict[int, Row] = {}
    for score in scores:
        if score["basis"] == "sae":
            rows[score["analysis_id"]] = {
                "layer": score["layer"], "sae": score["sae"], "n": score["n"], "value": score["value"],
                "interval": interval(score),
            }  # fmt: skip
    for difference in differences:
        row = rows[difference["analysis_id"]]
        if difference["other_basis"] != "sae":
            row[f"minus_{difference['other_basis']}"] = _marked(difference)
        elif difference["other_layer"] != difference["layer"]:
            row["minus_layer_before"] = _marked(difference)
    return list(rows.values())


def between_saes(differences: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Differences between SAEs of one layer, as rows with layer, sae, other_sae, `difference`, `interval`, n."""
    return [
        {
            "layer": row["layer"], "sae": row["sae"], "other_sae": row["other_sae"], "difference": _marked(row),
            "interval": interval(row), "n": row["n"],
        }
        for row in differences
        if row["analysis_id"] != row["other_analysis_id"] and row["layer"] == row["other_layer"]
    ]  # fmt: skip


def interval(row: Mapping[str, Any]) -> str | None:
    """`[low, high]`; None without an interval."""
    return None if row["ci_low"] is None else f"[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"


def is_bare_purity(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether some SAE's mean purity is known and has no interval.

    Args:
        rows: with basis, metric, value and ci_low, of any metrics.
    """
    return any(
        row["metric"] == PURITY and row["basis"] == "sae" and row["value"] is not None and row["ci_low"] is None
        for row in rows
    )


def verdict(trend: Mapping[str, Any]) -> str:
    """Whether a quantity rises with depth, by the interval of its slope: `yes`, `it falls`, `not shown`, `unknown`."""
    if trend["ci_low"] is None:
        return "unknown"
    if trend["ci_low"] > 0:
        return "yes"
    return "it falls" if trend["ci_high"] < 0 else "not shown"


def _marked(row: Mapping[str, Any]) -> str | None:
    return None if row["value"] is None else f"{row['value']:+.3f}{_mark(row)}"


def _mark(row: Mapping[str, Any]) -> str:
    if not row["is_apart"]:
        return " "
    return GAIN if row["value"] > 0 else LOSS
