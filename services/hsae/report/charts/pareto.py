"""Kinds and settings of SAEs compared: how sparse they are, how well they reconstruct, how coherent latents are."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from hsae.report.charts.names import plain
from hsae.report.charts.theme import Figure, axis, layout, sae_colour, sae_marker

_Y = {
    "fvu": ("FVU (held out; lower is better)", False),
    "coherence_excess": ("coherence, bits (higher is better)", True),
}


def pareto_figure(rows: Sequence[Mapping[str, Any]], y: Literal["fvu", "coherence_excess"]) -> Figure:
    """Held-out L0 against a quality: a small point per analysis, a large one for the mean over layers of each SAE.

    Means are over the layers that all SAEs have. One is hollow where another is at least as good in both, and better in
    one.

    Args:
        rows: with layer, `sae` (the SAE's name), holdout_l0 and the quality; a row without either is left out.
        y: which quality.
    """
    known = [row for row in rows if row["holdout_l0"] is not None and row[y] is not None]
    title, higher = _Y[y]
    saes = list(dict.fromkeys(row["sae"] for row in known))
    means = mean_points(known, y)
    traces = []
    for place, sae in enumerate(dict.fromkeys(row["sae"] for row in rows)):
        if sae not in saes:
            continue
        points = [row for row in known if row["sae"] == sae]
        colour, symbol = sae_colour(place), sae_marker(place)
        of_layers = {
            "type": "scatter", "mode": "markers", "name": plain(sae), "legendgroup": sae,
            "showlegend": sae not in means, "x": [row["holdout_l0"] for row in points],
            "y": [row[y] for row in points], "customdata": [row["layer"] for row in points],
            "marker": {"color": colour, "size": 7, "symbol": symbol, "opacity": 0.45},
            "hovertemplate": "layer %{customdata}: L0 %{x:.1f}, %{y:.3f}",
        }  # fmt: skip
        traces.append(of_layers)
        if sae in means:
            x_mean, y_mean = means[sae]
            is_best = is_on_front(means[sae], list(means.values()), higher=higher)
            traces.append(
                {
                    "type": "scatter", "mode": "markers", "name": plain(sae), "legendgroup": sae, "x": [x_mean],
                    "y": [y_mean], "hovertemplate": "mean over layers: L0 %{x:.1f}, %{y:.3f}",
                    "marker": {
                        "color": colour, "size": 15, "line": {"width": 2.5, "color": colour},
                        "symbol": symbol if is_best else f"{symbol}-open",
                    },
                }
            )  # fmt: skip
    sparse = [row["holdout_l0"] for row in known]
    ends = {"range": [0.85 * min(sparse), 1.15 * max(sparse)]} if sparse else {}
    figure_layout = layout(
        xaxis=axis("L0 (held out; lower is sparser)", **ends), yaxis=axis(title, rangemode="tozero"),
    )  # fmt: skip
    return {"data": traces, "layout": figure_layout}


def mean_points(rows: Sequence[Mapping[str, Any]], y: str) -> dict[str, tuple[float, float]]:
    """Mean held-out L0 and quality of each SAE over the layers that all SAEs have; empty if there is none."""
    layers: dict[str, set[int]] = {}
    for row in rows:
        layers.setdefault(row["sae"], set()).add(row["layer"])
    common = set.intersection(*layers.values()) if layers else set()
    if not common:
        return {}
    means = {}
    for sae in layers:
        points = [row for row in rows if row["sae"] == sae and row["layer"] in common]
        means[sae] = (
            sum(row["holdout_l0"] for row in points) / len(points),
            sum(row[y] for row in points) / len(points),
        )
    return means


def is_on_front(point: tuple[float, float], points: Sequence[tuple[float, float]], *, higher: bool) -> bool:
    """Whether no other point is as sparse and as good, and better in one of the two."""
    sign = -1 if higher else 1
    mine = (point[0], sign * point[1])
    others = ((x, sign * y) for x, y in points)
    return not any(other != mine and other[0] <= mine[0] and other[1] <= mine[1] for other in others)
