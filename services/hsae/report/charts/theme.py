"""Colours and layout that all figures share: readable for colour-blind people, on white and on dark pages."""

from typing import Any

Figure = dict[str, Any]

# The hues of Okabe and Ito 2008, made darker or lighter until each is seen as a line (3:1) on white, on dark pages, and
# on its own band on both; a violet in the place of the second blue.
SAE_COLOURS = ("#1f82c0", "#D55E00", "#008f68", "#b95f92", "#7f6fd0")
BASELINE = "#ad7700"
CHANCE = "#808080"
UNKNOWN = "#9a9a9a"
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x")

# Matplotlib's viridis (van der Walt and Smith, CC0), at ten places.
VIRIDIS = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
_GRID = "rgba(128,128,128,0.28)"


def sae_colour(place: int) -> str:
    """The colour of the SAE at a place in the list of SAEs."""
    return SAE_COLOURS[place % len(SAE_COLOURS)]


def sae_marker(place: int) -> str:
    """The marker of the SAE at a place in the list; where colours repeat, markers do not."""
    return _MARKERS[(place + place // len(SAE_COLOURS)) % len(_MARKERS)]


def viridis(value: float) -> str:
    """The colour of a value between 0 and 1; others get that of the nearer end."""
    place = min(1.0, max(0.0, value)) * (len(VIRIDIS) - 1)
    low = min(int(place), len(VIRIDIS) - 2)
    mixed = (
        round(a + (b - a) * (place - low)) for a, b in zip(_rgb(VIRIDIS[low]), _rgb(VIRIDIS[low + 1]), strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def translucent(colour: str, opacity: float) -> str:
    """The colour `#rrggbb`, through which one sees."""
    return f"rgba({','.join(map(str, _rgb(colour)))},{opacity:g})"


def layout(**further: Any) -> Figure:
    """A layout without a background, with room for labels; further settings replace those given here."""
    base: Figure = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"},
    }
    return base | further


def axis(title: str, **further: Any) -> Figure:
    """An axis with a faint grid."""
    base: Figure = {
        "title": {"text": title, "standoff": 8},
        "gridcolor": _GRID,
        "zerolinecolor": _GRID,
        "linecolor": _GRID,
        "automargin": True,
    }
    return base | further


def layer_axis(layers: list[int]) -> Figure:
    """The axis of layers: whole numbers, at most as many labels as fit."""
    step = max(1, -(-len(set(layers)) // 12))
    ends = {"range": [min(layers) - 0.3, max(layers) + 0.3]} if layers else {}
    return axis("layer (block, from 0)", dtick=step, tick0=min(layers, default=0), zeroline=False, **ends)


def number(value: float | None, digits: int = 2) -> str:
    """A number for people, `–` where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
