"""The curves of trainings as a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hsae.report.figures.numbers import values
from hsae.report.figures.palette import colours
from hsae.report.figures.written import write_figure

_Points = Sequence[Mapping[str, Any]]


class _Panel(NamedTuple):
    """One number over the steps; `train` is its column on training rows, drawn dotted."""

    column: str
    heading: str
    train: str | None = None
    is_log: bool = False


_PANELS = (
    _Panel("loss", "loss of the step's batch", is_log=True),
    _Panel("fvu", "variance unexplained (FVU)", "train_fvu", is_log=True),
    _Panel("l0", "firing latents per row (L0)", "train_l0"),
    _Panel("dead_share", "share of dead latents"),
    _Panel("learning_rate", "learning rate"),
    _Panel("vectors_per_second", "vectors per second"),
)


def curve_figure(curves: Mapping[str, _Points], title: str, path: Path) -> None:
    """Draw the curves of trainings, six panels, and write them as PNG, SVG or PDF.

    FVU and L0 of held-out rows are solid lines, those of training rows dotted. A number that is undefined leaves a
    gap; a panel without any says so.

    Args:
        curves: by the SAE's name for people the rows of its `sae_curve`, by step.
        title: of the figure.
        path: of the file, which ends in .png, .svg or .pdf.

    Raises:
        UserError: the file cannot be written.
    """
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    panels = figure.subplots(2, 3)
    for axes, panel in zip(panels.flat, _PANELS, strict=True):
        for (name, points), colour in zip(curves.items(), colours(len(curves)), strict=True):
            _draw(axes, points, panel, colour, name)
        axes.set_title(panel.heading, fontsize=10)
        if not axes.lines:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="0.35")
        elif panel.is_log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("step")
    first, with_train = panels.flat[0], panels.flat[1]
    if len(curves) > 1:
        first.legend(fontsize=8, frameon=False)
    if with_train.lines:
        with_train.plot([], [], color="0.35", label="held-out rows")
        with_train.plot([], [], color="0.35", linestyle=":", label="training rows")
        with_train.legend(handles=with_train.lines[-2:], fontsize=8, frameon=False)
    write_figure(figure, path)


def _draw(axes: Axes, points: _Points, panel: _Panel, colour: Any, name: str) -> None:
    steps = [point["step"] for point in points]
    for column, style in ((panel.column, "-"), (panel.train, ":")):
        if column is not None and any(point[column] is not None for point in points):
            axes.plot(steps, values(points, column), color=colour, linestyle=style, linewidth=1.2, label=name)
