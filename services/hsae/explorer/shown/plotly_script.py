"""Plotly's JavaScript, from the installed package, under our Content-Security-Policy."""

import re
from functools import cache
from pathlib import Path

import plotly

FILE = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
# It holds a map library, which writes a style element when it is loaded unless the document has one of this id.
_MAP_STYLE = re.compile(r'document\.getElementById\("([0-9a-f]{64})"\)\)\{var \w+=document\.createElement\("style"\)')


@cache
def map_style_id() -> str:
    """The id of the style element that pages have in its place; empty where this version of Plotly writes none."""
    found = _MAP_STYLE.search(FILE.read_text(encoding="utf-8"))
    return "" if found is None else found[1]
