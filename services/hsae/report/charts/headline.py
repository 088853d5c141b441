"""A headline number over depth: the SAE with its interval, the best baseline, and the shuffled taxonomy."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hsae.report.charts.names import plain
from hsae.report.charts.theme import (
    BASELINE,
    CHANCE,
    Figure,
    axis,
    layer_axis,
    layout,
    number,
    sae_colour,
    sae_marker,
    translucent,
)
from hsae.report.headline_table import COHERENCE, INNER_F1
from hsae.vocabulary.bases import BASELINES, BASIS_NAMES

Row = dict[str, Any]
_Interval = tuple[float | None, float | None, float | None]


class Measure(NamedTuple):
    """A headline number: its name in the catalog, a title, what its axis says, and one sentence about it."""

    metric: str
    title: str
    unit: str
    about: str


MEASURES = {
    "coherence": Measure(
        COHERENCE,
        "Taxonomic coherence beyond chance",
        "bits, mean over latents",
        "How much closer in the tree the classes of a latent's strongest images are than classes at random; 0 by "
        "chance.",
    ),
    "inner_f1": Measure(
        INNER_F1,
        "Adjusted F1 of inner nodes",
        "mean over nodes of 3+ classes",
        "How well a node's best latent tells its images from all others; 0 for one that always fires. By chance it is "
        "above 0: compare it with the shuffled tree.",
    ),
}


def headline_points(
    rows: Sequence[Mapping[str, Any]],
    intervals: Mapping[tuple[int, str, str], _Interval],
    shuffled: Mapping[tuple[int, str], tuple[float | None, float | None]],
    metric: str,
) -> list[Row]:
    """One point per analysis: `value`, `low`, `high`; `baseline`, `baseline_name`; `tree`, `tree_q975`.

    Args:
        rows: one per analysis, with analysis_id, layer and `sae`, the SAE's name, in the order of the points.
        intervals: value, low and high by analysis, basis and metric, as `headline_intervals` has them.
        shuffled: mean and 97.5 % quantile by analysis and metric, as `shuffled_trees` has them.
        metric: the number's name in the catalog.
    """
    points = []
    for row in rows:
        number_ = row["analysis_id"]
        value, low, high = intervals.get((number_, "sae", metric), (None, None, None))
        reached = {basis: intervals.get((number_, basis, metric), (None,))[0] for basis in BASELINES}
        known = {basis: value for basis, value in reached.items() if value is not None}
        best = max(known, key=lambda basis: known[basis], default=None)
        tree, tree_q975 = shuffled.get((number_, metric), (None, None))
        points.append(
            {
                "analysis_id": number_, "sae": row["sae"], "layer": row["layer"], "value": value, "low": low,
                "high": high, "baseline": None if best is None else known[best],
                "baseline_name": None if best is None else BASIS_NAMES[best], "tree": tree, "tree_q975": tree_q975,
            }
        )  # fmt: skip
    return points


def headline_figure(points: Sequence[Mapping[str, Any]], measure: Measure, *, shown: str | None = None) -> Figure:
    """One number over the layers.

    Args:
        points: from `headline_points`.
        measure: which number they are.
        shown: the SAE that is drawn with its controls; a click in the legend shows another, with its own. None draws
            all SAEs, and a click shows the controls of one.
    """
    saes = list(dict.fromkeys(point["sae"] for point in points))
    traces: list[Figure] = []
    for place, sae in enumerate(saes):
        of_sae = [point for point in points if point["sae"] == sae]
        is_main = shown == sae or len(saes) == 1
        look = _Look(
            visible=True if is_main or shown is None else "legendonly",
            controls=True if is_main else "legendonly",
            colour=None if is_main else sae_colour(place),
            group=sae if shown is not None and not is_main else None,
        )
        suffix = "" if is_main else f" ({sae})"
        traces += _with_band(of_sae, sae, place, look)
        traces.append(_baseline(of_sae, f"best baseline{suffix}", look))
        traces += _tree(of_sae, f"shuffled tree{suffix}", look)
    layers = [point["layer"] for point in points]
    figure_layout = layout(
        xaxis=layer_axis(layers), yaxis=axis(measure.unit, rangemode="tozero"), hovermode="x unified"
    )
    return {"data": [trace for trace in traces if any(y is not None for y in trace["y"])], "layout": figure_layout}


class _Look(NamedTuple):
    """How an SAE and its controls are drawn.

    Attributes:
        visible: whether the SAE is drawn at once.
        controls: whether its controls are.
        colour: of the controls; None for the colours that all figures have for them.
        group: the group of the legend that shows the controls together with the SAE; None: each by itself.
    """

    visible: bool | str
    controls: bool | str
    colour: str | None
    group: str | None


def _with_band(points: Sequence[Mapping[str, Any]], sae: str, place: int, look: _Look) -> list[Figure]:
    colour = sae_colour(place)
    with_interval = [point for point in points if point["low"] is not None and point["high"] is not None]
    layers = [point["layer"] for point in with_interval]
    band = {
        "type": "scatter", "mode": "lines", "x": layers + layers[::-1], "fill": "toself",
        "y": [point["high"] for point in with_interval] + [point["low"] for point in reversed(with_interval)],
        "fillcolor": translucent(colour, 0.2), "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False,
        "legendgroup": sae, "visible": look.visible, "name": f"{sae} interval",
    }  # fmt: skip
    line = {
        "type": "scatter", "mode": "lines+markers", "x": [point["layer"] for point in points],
        "y": [point["value"] for point in points], "name": plain(sae), "legendgroup": sae, "visible": look.visible,
        "line": {"color": colour, "width": 2.5}, "marker": {"symbol": sae_marker(place), "size": 8, "color": colour},
        "customdata": [f"{number(point['low'])} to {number(point['high'])}" for point in points],
        "hovertemplate": "%{y:.3f} (95 % interval %{customdata})",
    }  # fmt: skip
    return [band, line]


def _baseline(points: Sequence[Mapping[str, Any]], name: str, look: _Look) -> Figure:
    return {
        "type": "scatter", "mode": "lines", "x": [point["layer"] for point in points],
        "y": [point["baseline"] for point in points], "name": plain(name), "visible": look.controls,
        "legendgroup": look.group or name, "showlegend": look.group is None,
        "line": {"color": look.colour or BASELINE, "width": 2, "dash": "dash"},
        "customdata": [point["baseline_name"] or "" for point in points],
        "hovertemplate": "%{y:.3f} (%{customdata})",
    }  # fmt: skip


def _tree(points: Sequence[Mapping[str, Any]], name: str, look: _Look) -> list[Figure]:
    """The mean over shuffled taxonomies; their 97.5 % quantile is the upper edge of a band."""
    known = [point for point in points if point["tree"] is not None and point["tree_q975"] is not None]
    layers = [point["layer"] for point in known]
    colour = look.colour or CHANCE
    shared = {"type": "scatter", "mode": "lines", "legendgroup": look.group or name, "visible": look.controls}
    band = {
        **shared, "x": layers + layers[::-1], "fill": "toself", "showlegend": False, "hoverinfo": "skip",
        "y": [point["tree_q975"] for point in known] + [point["tree"] for point in reversed(known)],
        "fillcolor": translucent(colour, 0.2), "line": {"width": 0}, "name": plain(f"{name} to 97.5 %"),
    }  # fmt: skip
    line = {
        **shared, "x": [point["layer"] for point in points], "y": [point["tree"] for point in points],
        "name": plain(name), "showlegend": look.group is None, "line": {"color": colour, "width": 2, "dash": "dot"},
        "customdata": [number(point["tree_q975"]) for point in points],
        "hovertemplate": "%{y:.3f} (97.5 % of shuffles below %{customdata})",
    }  # fmt: skip
    return [band, line]
