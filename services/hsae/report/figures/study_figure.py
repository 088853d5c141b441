"""The comparison of a study as a figure: values by layer, and the SAE beside its strongest baseline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hsae.report.figures.numbers import values
from hsae.report.figures.palette import colours
from hsae.report.figures.written import write_figure
from hsae.report.interval_table import NO_PURITY_INTERVAL, is_bare_purity, verdict
from hsae.vocabulary.bases import BASELINES

_Row = Mapping[str, Any]


def study_figure(
    metrics: Mapping[str, str],
    scores: Sequence[_Row],
    differences: Sequence[_Row],
    trends: Sequence[_Row],
    title: str,
    path: Path,
) -> None:
    """Draw two panels for each metric, and write them.

    The left one has the SAE's value at every layer with its interval as a band, a line for each SAE setting, and
    dashed the shuffled taxonomy where it was scored. The right one has the paired difference from the strongest
    baseline of that layer with its interval: above 0 the SAE finds more.

    Args:
        metrics: their names for people, by metric; only those with scores are drawn.
        scores: rows of `comparison_scores`, with `sae` as its name for people.
        differences: rows of `comparison_differences`, likewise.
        trends: rows of `comparison_trends`, likewise.
        title: of the figure.
        path: of the file, which ends in .png, .svg or .pdf.

    Raises:
        UserError: the file cannot be written.
    """
    drawn = [metric for metric in metrics if any(row["metric"] == metric for row in scores)]
    figure = Figure(figsize=(12, 1.0 + 3.2 * max(1, len(drawn))), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(max(1, len(drawn)), 2, squeeze=False)
    names = list(dict.fromkeys(row["sae"] for row in scores))
    colour_of = dict(zip(names, colours(len(names)), strict=True))
    for (left, right), metric in zip(panels, drawn, strict=False):
        of_metric = [row for row in scores if row["metric"] == metric]
        rises = {row["sae"]: verdict(row) for row in trends if row["metric"] == metric}
        for name, colour in colour_of.items():
            rows = [row for row in of_metric if row["sae"] == name]
            _draw_values(left, rows, colour, f"{name}; rises with depth? {rises.get(name, 'unknown')}")
            _draw_differences(
                right,
                rows,
                [row for row in differences if row["metric"] == metric and row["sae"] == name],
                colour,
                offset=0.12 * (names.index(name) - (len(names) - 1) / 2),
            )
        left.set_title(metrics[metric], fontsize=10)
        left.legend(fontsize=8, frameon=False)
        right.set_title("minus the strongest baseline of the layer, paired", fontsize=10)
        right.axhline(0, color="0.35", linewidth=0.8)
    for axes in panels.flat:
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("layer (block, from 0)")
    if is_bare_purity([row for row in scores if row["metric"] in drawn]):
        figure.supxlabel(NO_PURITY_INTERVAL, fontsize=8)
    write_figure(figure, path)


def _draw_values(axes: Axes, rows: Sequence[_Row], colour: Any, label: str) -> None:
    own = [row for row in rows if row["basis"] == "sae"]
    layers = [row["layer"] for row in own]
    axes.plot(layers, values(own, "value"), color=colour, marker="o", markersize=4, label=label)
    axes.fill_between(
        layers,
        values(own, "ci_low"),
        values(own, "ci_high"),
        color=colour,
        alpha=0.15,
        linewidth=0,
    )
    shuffled = [row for row in rows if row["basis"] == "shuffled_taxonomy"]
    if shuffled:
        axes.plot(
            [row["layer"] for row in shuffled], values(shuffled, "value"),
            color=colour, linestyle="--", linewidth=0.9,
        )  # fmt: skip


def _draw_differences(
    axes: Axes, scores: Sequence[_Row], differences: Sequence[_Row], colour: Any, *, offset: float
) -> None:
    for layer in dict.fromkeys(row["layer"] for row in scores):
        strongest = strongest_baseline([row for row in scores if row["layer"] == layer])
        row = next((d for d in differences if d["layer"] == layer and d["other_basis"] == strongest), None)
        if row is None or row["value"] is None:
            continue
        axes.plot([layer + offset], [row["value"]], color=colour, marker="o", markersize=4)
        if row["ci_low"] is not None:
            axes.plot([layer + offset] * 2, [row["ci_low"], row["ci_high"]], color=colour, linewidth=1.2)


def strongest_baseline(scores: Sequence[_Row]) -> str | None:
    """The baseline with the greatest value among the bases of one layer; None without any.

    Args:
        scores: rows with `basis` and `value`.
    """
    reached = [(row["value"], row["basis"]) for row in scores if row["basis"] in BASELINES and row["value"] is not None]
    return max(reached)[1] if reached else None
