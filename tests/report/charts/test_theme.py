"""The colours of lines are seen on light and on dark pages, also on the bands that belong to them."""

import re
from importlib import resources

import pytest

from hsae.report.charts.headline import MEASURES, headline_figure
from hsae.report.charts.theme import BASELINE, CHANCE, SAE_COLOURS

LEAST = 3.0
"""Of the contrast of graphical objects: WCAG 2.1, criterion 1.4.11."""
SHEETS = {
    "report": (resources.files("hsae.report.page") / "templates" / "report.css", "page"),
    "explorer": (resources.files("hsae.explorer") / "static" / "explorer.css", "ground"),
}


def channels(colour: str) -> list[float]:
    return [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]


def contrast(one: list[float], other: list[float]) -> float:
    """Of two colours, as WCAG 2.1 defines it."""

    def luminance(colour: list[float]) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def grounds() -> list[tuple[str, str]]:
    """The colours of all pages, light and dark."""
    found = []
    for name, (sheet, variable) in SHEETS.items():
        values = re.findall(rf"--{variable}: (#[0-9a-f]{{6}})", sheet.read_text())
        assert len(values) == 2, name
        found += [(f"{name} {value}", value) for value in values]
    return found


def band_opacity() -> float:
    """How much of a line's colour its band has."""
    point = {
        "analysis_id": 1, "sae": "relu", "layer": 1, "value": 0.5, "low": 0.4, "high": 0.6, "baseline": 0.3,
        "baseline_name": "PCA", "tree": 0.1, "tree_q975": 0.2,
    }  # fmt: skip
    figure = headline_figure([point], MEASURES["coherence"])
    (band,) = [trace for trace in figure["data"] if trace["name"] == "relu interval"]
    return float(re.fullmatch(r"rgba\(.*,([0-9.]+)\)", band["fillcolor"])[1])


@pytest.mark.parametrize(("page", "ground"), grounds())
@pytest.mark.parametrize("colour", [*SAE_COLOURS, BASELINE, CHANCE])
def test_lines_stand_out_from_the_page_and_from_their_bands(page, ground, colour):
    line, under = channels(colour), channels(ground)
    opacity = band_opacity()
    band = [opacity * own + (1 - opacity) * below for own, below in zip(line, under, strict=True)]
    assert contrast(line, under) >= LEAST, page
    assert contrast(line, band) >= LEAST, page


def test_colours_differ():
    assert len({*SAE_COLOURS, BASELINE, CHANCE}) == len(SAE_COLOURS) + 2
