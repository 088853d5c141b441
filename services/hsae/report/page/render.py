"""From what a report says to one HTML file."""

import base64
import hashlib
import json
import math
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hsae.report.charts.histogram import histogram_figure
from hsae.report.charts.names import short_name
from hsae.report.charts.theme import Figure
from hsae.report.page.content import ReportContent
from hsae.report.page.tables import cell, csv_link
from hsae.split_config import IN_SAMPLE

_CODE = re.compile(r"`([^`]+)`")
_SCRIPTS = ("figures.js", "report.js")


def render_report(content: ReportContent) -> str:
    """The page. Whatever is a name, a label or a path is escaped; scripts other than its own do not run."""
    environment = Environment(
        loader=PackageLoader("hsae.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "short": short_name, "prose": _prose}
    scripts = [plotly_script(), "\n".join(_template(name) for name in _SCRIPTS)]
    return environment.get_template("report.html").render(
        content=content,
        css=Markup(_template("report.css")),  # noqa: S704 -- a file of ours
        scripts=[Markup(script) for script in scripts],  # noqa: S704 -- ours and Plotly's
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        data=Markup(_in_script(_data(content))),  # noqa: S704 -- escaped for a script element
        csv_link=csv_link,
        in_sample_word=IN_SAMPLE,
    )


def _data(content: ReportContent) -> dict[str, Any]:
    """What the scripts of the page read."""
    figures: dict[str, Figure] = {}
    for part, group in (
        ("hero", content.hero),
        ("layers", content.layers),
        ("pareto", content.pareto),
        ("edits", content.edits),
    ):
        for place, figure in enumerate(group.values()):
            figures[f"{part}-{place}"] = figure
    taxonomy = content.taxonomy
    return {
        "figures": {name: _marked(figure, content.in_sample) for name, figure in figures.items()},
        "histograms": {
            card.anchor: _marked(histogram_figure(card.histogram, short_name(card.label)), content.in_sample)
            for card in content.cards
            if card.histogram is not None
        },
        "taxonomy": None
        if taxonomy is None
        else {
            "figure": _marked(taxonomy.figure(slider=False), content.in_sample),
            "frames": [
                {
                    "sae": frame.sae, "layer": frame.layer, "colours": frame.colours,
                    # What is the same in all frames stands in the first alone.
                    "cells": [row[2:] for row in frame.customdata],
                }
                for frame in taxonomy.frames
            ],
        },
    }  # fmt: skip


def _marked(figure: Figure, in_sample: bool) -> Figure:
    """The figure; in-sample numbers say so within it, also once it is saved as a picture."""
    if not in_sample:
        return figure
    mark = {
        "text": IN_SAMPLE, "xref": "paper", "yref": "paper", "x": 1, "y": 1, "xanchor": "right", "yanchor": "top",
        "showarrow": False, "font": {"size": 12}, "bgcolor": "rgba(230,159,0,0.35)", "borderpad": 3,
    }  # fmt: skip
    return {**figure, "layout": {**figure["layout"], "annotations": [mark]}}


def _in_script(data: dict[str, Any]) -> str:
    """JSON that no HTML parser takes for anything else, wherever it stands."""
    text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _prose(text: str) -> Markup:
    """A sentence in which what stands between backticks is code; all else is escaped."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 -- escaped first


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def plotly_script() -> str:
    """Plotly's own script, the whole library, as Plotly's package has it."""
    return (resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _template(name: str) -> str:
    return (resources.files("hsae.report.page") / "templates" / name).read_text(encoding="utf-8")
