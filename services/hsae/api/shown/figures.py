"""Figures that a notebook shows. They are drawn here alone, so that another library can take the place of this one."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hsae.sae.variants import VARIANTS

_UNITS = {
    "coherence_excess": "taxonomic coherence beyond chance, bits",
    "coherence_excess_weighted": "taxonomic coherence beyond chance, bits, by firings",
    "f1_adjusted_inner_mean": "adjusted best F1 of inner nodes (≥ 3 classes)",
    "f1_adjusted_mean": "adjusted best F1 of all nodes",
    "purity_mean": "purity of the strongest images",
    "lch_excess_mean": "lowest common hypernym, smaller than by chance, bits",
    "lch_height_mean": "LCH height, raw",
    "coverage_mean": "ontological coverage, raw",
}


class CurveFigure(Figure):
    """A figure that a notebook shows, whether or not pyplot was imported there."""

    def _repr_png_(self) -> bytes:
        written = io.BytesIO()
        self.savefig(written, format="png", dpi=110)
        return written.getvalue()


def curve_figure(rows: Sequence[Mapping[str, Any]], metric: str, title: str) -> CurveFigure:
    """A number over depth: every SAE with its 95 % interval, the best baseline, and the shuffled tree.

    The axis says where no value has an interval, as purity on few classes.

    Args:
        rows: from `headline_curve`.
        metric: whose values they have.
        title: of the figure.
    """
    figure = CurveFigure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names = list(dict.fromkeys(row["sae"] for row in rows))
    for number, name in enumerate(names):
        own = [row for row in rows if row["sae"] == name]
        layers, colour = [row["layer"] for row in own], f"C{number % 10}"
        marker = VARIANTS[own[0]["sae_kind"]].style.marker
        axes.plot(layers, _values(own, "value"), color=colour, marker=marker, label=name)
        axes.fill_between(layers, _values(own, "low"), _values(own, "high"), color=colour, alpha=0.15, linewidth=0)
        axes.plot(layers, _values(own, "baseline"), color=colour, linestyle="--", linewidth=1)
        axes.plot(layers, _values(own, "tree"), color=colour, linestyle=":", linewidth=1)
    axes.plot([], [], color="0.35", linestyle="--", linewidth=1, label="each with its best baseline")
    axes.plot([], [], color="0.35", linestyle=":", linewidth=1, label="each with the taxonomy shuffled")
    axes.set_xlabel("layer (block, from 0)")
    has_interval = any(row["low"] is not None for row in rows)
    axes.set_ylabel(_UNITS.get(metric, metric) + ("" if has_interval else "\n(no interval)"), fontsize=9)
    axes.set_title(title, fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [math.nan if row[name] is None else float(row[name]) for row in rows]
