"""How strongly a latent fires, on images under its label and on all others."""

from itertools import pairwise
from typing import NamedTuple

from hsae.report.charts.names import plain
from hsae.report.charts.theme import CHANCE, SAE_COLOURS, Figure, axis, layout


class ActivationHistogram(NamedTuple):
    """Numbers of images on which a latent fires, by its activation.

    Attributes:
        edges: of the bins, one more than bins.
        inside: images under the latent's label, by bin.
        outside: the other images, by bin.
        n_silent: images on which it does not fire.
    """

    edges: list[float]
    inside: list[int]
    outside: list[int]
    n_silent: int


def histogram_figure(histogram: ActivationHistogram, label: str) -> Figure:
    """Stacked bars: images under the label, and others."""
    edges = histogram.edges
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    widths = [high - low for low, high in pairwise(edges)]
    bars = [
        {
            "type": "bar", "x": middles, "y": counts, "width": widths, "name": name, "marker": {"color": colour},
            "hovertemplate": "%{y} images at %{x:.2f}",
        }
        for name, counts, colour in (
            (plain(f"under {label}"), histogram.inside, SAE_COLOURS[0]),
            ("other images", histogram.outside, CHANCE),
        )
    ]  # fmt: skip
    figure_layout = layout(
        barmode="stack", bargap=0.02, xaxis=axis("activation", rangemode="tozero"),
        yaxis=axis("images", rangemode="tozero"),
    )  # fmt: skip
    return {"data": bars, "layout": figure_layout}
