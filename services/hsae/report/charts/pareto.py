"""Kinds and settings of SAEs compared: how sparse they are, how well they reconstruct, how coherent latents are."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hsae.report.charts.names import plain
from hsae.report.charts.theme import Figure, axis, layout, sae_colour, sae_marker

_NAMED_POINTS = 40
"""More points than these are named by hovering alone."""
_Y = {
    "fvu": ("FVU of held-out rows (lower is better)", False),
    "coherence_excess": ("coherence beyond chance, bits (higher is better)", True),
}


def pareto_figure(rows: Sequence[Mapping[str, Any]], y: Literal["fvu", "coherence_excess"]) -> Figure:
    """Held-out L0 against a quality; a point per analysis, hollow where another SAE of its layer is better in both.

    Args:
        rows: with layer, `sae` (the SAE's name), holdout_l0 and the quality; without either a row is left out.
        y: which quality.
    """
    known = [row for row in rows if row["holdout_l0"] is not None and row[y] is not None]
    is_named = len(known) <= _NAMED_POINTS
    title, higher = _Y[y]
    saes = list(dict.fromkeys(row["sae"] for row in rows))
    traces = []
    for place, sae in enumerate(saes):
        points = [row for row in known if row["sae"] == sae]
        colour, symbol = sae_colour(place), sae_marker(place)
        traces.append(
            {
                "type": "scatter", "name": plain(sae), "mode": "markers+text" if is_named else "markers",
                "x": [row["holdout_l0"] for row in points], "y": [row[y] for row in points],
                "text": [str(row["layer"]) for row in points], "textposition": "middle right",
                "marker": {
                    "color": colour, "size": 10, "line": {"width": 2, "color": colour},
                    "symbol": [symbol if is_on_front(row, known, y, higher=higher) else f"{symbol}-open"
                               for row in points],
                },
                "hovertemplate": "layer %{text}: L0 %{x:.1f}, %{y:.3f}",
            }
        )  # fmt: skip
    figure_layout = layout(
        xaxis=axis("L0 of held-out rows (lower is sparser)"), yaxis=axis(title, rangemode="tozero"),
    )  # fmt: skip
    return {"data": [trace for trace in traces if trace["x"]], "layout": figure_layout}


def is_on_front(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], y: str, *, higher: bool) -> bool:
    """Whether no other SAE of the same layer is as sparse and as good, and better in one of the two."""
    sign = -1 if higher else 1
    mine = (row["holdout_l0"], sign * row[y])
    for other in rows:
        theirs = (other["holdout_l0"], sign * other[y])
        if other["layer"] == row["layer"] and theirs != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1]:
            return False
    return True
