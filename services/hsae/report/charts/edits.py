"""The taxonomy coloured by what an edit of latents took away from every node."""

from collections.abc import Mapping, Sequence
from typing import Any

from hsae.report.charts.names import plain, short_name
from hsae.report.charts.taxonomy import drawn_nodes
from hsae.report.charts.theme import UNKNOWN, Figure, layout, number
from hsae.report.ranges import ranges

DIVERGING = ("#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b")
"""ColorBrewer's RdBu (Brewer, Apache 2.0) at seven places: what gains is blue, what loses is red."""
_LEVELS = 9
_UNITS = {"log_odds": "log-odds", "accuracy": "accuracy"}


def edit_figure(
    nodes: Sequence[Mapping[str, Any]], edit: Mapping[str, Any], taken: Mapping[int, Mapping[str, Any]]
) -> Figure:
    """An icicle of the taxonomy; the scale is the same on both sides of 0, and ends at the greatest change.

    Args:
        nodes: rows of `tree_nodes` from the root: synset_id, synset, hypernym_ids, n_classes, n_images.
        edit: a row of `pictured_edits`.
        taken: of `taken_away`.
    """
    drawn = drawn_nodes(nodes)
    about = {row["synset_id"]: row for row in nodes}
    unit = _UNITS[edit["unit"]]
    greatest = max((abs(row["drop"]) for row in taken.values()), default=0.0) or 1.0
    inner = {above for _, above, _ in drawn}
    texts = []
    for node, _, same in drawn:
        found = taken.get(node)
        if found is None:
            lost = "not defined"
        else:
            lost = f"{unit} lost: {number(found['drop'])} on {found['n_images']} images, {found['distance']} edges away"
        further = f" (the same as {', '.join(same)})" if same else ""
        texts.append([plain(f"{about[node]['synset']}{further}"), plain(lost)])
    shape: Figure = {
        "type": "icicle",
        "ids": [str(node) for node, _, _ in drawn],
        "labels": [
            ("✕ " if node == edit["synset_id"] else "") + plain(short_name(about[node]["synset"]))
            for node, _, _ in drawn
        ],
        "parents": ["" if above is None else str(above) for _, above, _ in drawn],
        "values": [0 if node in inner else 1 for node, _, _ in drawn],
        "branchvalues": "remainder",
        "maxdepth": _LEVELS,
        "sort": False,
        "tiling": {"orientation": "v"},
        "customdata": texts,
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{customdata[1]}<extra></extra>",
        "marker": {
            "colors": [colour(taken[node]["drop"] / greatest) if node in taken else UNKNOWN for node, _, _ in drawn],
            "line": {"width": 0.5},
        },
        "leaf": {"opacity": 1},
    }
    bar: Figure = {
        "type": "scatter", "x": [None], "y": [None], "mode": "markers", "showlegend": False, "hoverinfo": "skip",
        "marker": {
            "color": [0], "cmin": -greatest, "cmax": greatest, "showscale": True,
            "colorscale": [[place / (len(DIVERGING) - 1), shade] for place, shade in enumerate(DIVERGING)],
            "colorbar": {"title": {"text": f"{unit} lost"}, "thickness": 12, "len": 0.7, "outlinewidth": 0},
        },
    }  # fmt: skip
    figure_layout = layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, xaxis={"visible": False}, yaxis={"visible": False},
        uniformtext={"minsize": 9, "mode": "hide"},
    )  # fmt: skip
    return {"data": [shape, bar], "layout": figure_layout}


def edit_title(edit: Mapping[str, Any]) -> str:
    """What was edited, where: `16 latents of bird.n.01 taken away, layer 8`.

    Args:
        edit: a row of `pictured_edits`.
    """
    done = {"scale": "taken away" if edit["dose"] == 0 else f"times {edit['dose']:g}"}.get(
        edit["edit"], f"{'clamped' if edit['edit'] == 'clamp' else 'added to'}, dose {edit['dose']:g}"
    )
    latents = "1 latent" if edit["n_latents"] == 1 else f"{edit['n_latents']} latents"
    layers = f"layer{'s' if len(edit['layers']) > 1 else ''} {ranges(edit['layers'])}"
    return f"{latents} of {edit['target']} {done}, {layers}, {edit['sae_kind']}"


def edit_about(edit: Mapping[str, Any]) -> str:
    """The specificity of a pictured edit beside its interval and its controls, and of how many edits it is the best.

    Args:
        edit: a row of `pictured_edits`.
    """
    low, high, n_random = edit["low"], edit["high"], edit["n_random"]
    within = "no interval" if low is None or high is None else f"95 %: {number(low)} to {number(high)}"
    controls = "no random latents"
    if n_random == 1:
        controls = f"one draw of random latents {number(edit['random'])}"
    elif n_random:
        spread = f"{number(edit['random_least'])} to {number(edit['random_greatest'])}"
        controls = f"{n_random} draws of random latents {number(edit['random'])} ({spread})"
    leace = "no LEACE" if edit["leace"] is None else f"LEACE {number(edit['leace'])}"
    if edit["n_edits"] > 1:
        chosen = (
            f"Chosen as the greatest of {edit['n_edits']} edits of this node, of all layers and SAEs, on the scored"
            " images: that flatters it."
        )
    else:
        chosen = "The one edit of this node."
    measured = f"specificity {number(edit['specificity'])} in {_UNITS[edit['unit']]} ({within})"
    return f"By the {edit['readout']}: {measured}, beside {controls} and {leace}. {chosen}"


def colour(value: float) -> str:
    """The colour of a value from -1 (gained) to 1 (lost); others get that of the nearer end."""
    place = (min(1.0, max(-1.0, value)) + 1) / 2 * (len(DIVERGING) - 1)
    low = min(int(place), len(DIVERGING) - 2)
    pairs = zip(_rgb(DIVERGING[low]), _rgb(DIVERGING[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - low)):02x}" for a, b in pairs)


def _rgb(shade: str) -> tuple[int, ...]:
    return tuple(int(shade[at : at + 2], 16) for at in (1, 3, 5))
