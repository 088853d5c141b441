"""The taxonomy as a picture that one can walk into, lit up by what each layer knows of every node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hsae.report.charts.names import plain, short_name
from hsae.report.charts.theme import UNKNOWN, VIRIDIS, Figure, layout, number, viridis
from hsae.vocabulary.bases import BASIS_NAMES

_HOVER = (
    "<b>%{customdata[0]}</b><br>%{customdata[1]}<br>adjusted F1 of its best latent: %{customdata[2]}"
    "<br>shuffled tree: %{customdata[3]}<br>best baseline: %{customdata[4]}<br>%{customdata[5]}<extra></extra>"
)
_LEVELS = 9
"""How many levels are drawn at a time; a click goes deeper."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One analysis: the colour of every drawn node, and what stands beside the pointer."""

    analysis_id: int
    layer: int
    sae: str
    colours: list[str]
    customdata: list[list[str]]


@dataclass(frozen=True, slots=True)
class TaxonomyChart:
    """The drawn nodes of a taxonomy, and a frame per analysis.

    A node with several hypernyms is drawn once, under the one with the fewest classes. A node that holds the same
    classes as its only drawn child is drawn as that child.

    Attributes:
        ids: synset ids as text, parents before children.
        labels: short names.
        parents: id of each node's parent; "" for the root.
        values: 1 for what has no child, else 0.
        frames: in the order of the analyses.
    """

    ids: list[str]
    labels: list[str]
    parents: list[str]
    values: list[int]
    frames: list[Frame]

    @property
    def saes(self) -> list[str]:
        """The names of the SAEs, in order."""
        return list(dict.fromkeys(frame.sae for frame in self.frames))

    def figure(
        self, sae: str | None = None, *, kind: Literal["sunburst", "icicle"] = "sunburst", slider: bool = True
    ) -> Figure:
        """The figure of one SAE (default: the first), at its last layer, with a slider over its layers."""
        frames = [frame for frame in self.frames if frame.sae == (self.saes[0] if sae is None else sae)]
        last = frames[-1]
        shape: Figure = {
            "type": kind, "ids": self.ids, "labels": self.labels, "parents": self.parents, "values": self.values,
            "branchvalues": "remainder", "maxdepth": _LEVELS, "sort": False, "hovertemplate": _HOVER,
            "marker": {"colors": last.colours, "line": {"width": 0.5}}, "customdata": last.customdata,
            "leaf": {"opacity": 1},
        }  # fmt: skip
        if kind == "sunburst":
            shape["insidetextorientation"] = "radial"
        else:
            shape["tiling"] = {"orientation": "v"}
        bar: Figure = {
            "type": "scatter", "x": [None], "y": [None], "mode": "markers", "showlegend": False, "hoverinfo": "skip",
            "marker": {
                "color": [0], "cmin": 0, "cmax": 1, "showscale": True,
                "colorscale": [[place / (len(VIRIDIS) - 1), colour] for place, colour in enumerate(VIRIDIS)],
                "colorbar": {"title": {"text": "adjusted F1"}, "thickness": 12, "len": 0.7, "outlinewidth": 0},
            },
        }  # fmt: skip
        figure_layout = layout(
            margin={"l": 8, "r": 8, "t": 8, "b": 8}, xaxis={"visible": False}, yaxis={"visible": False},
            uniformtext={"minsize": 9, "mode": "hide"},
        )  # fmt: skip
        if slider and len(frames) > 1:
            figure_layout["sliders"] = [_slider(frames)]
        return {"data": [shape, bar], "layout": figure_layout}


def taxonomy_chart(
    nodes: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, Any]],
    analyses: Sequence[Mapping[str, Any]],
) -> TaxonomyChart:
    """The taxonomy with one frame per analysis.

    Args:
        nodes: rows of `tree_nodes` from the root: synset_id, synset, hypernym_ids, n_classes, n_images.
        scores: rows of `node_null_rows`.
        analyses: with analysis_id, layer and `sae`, the SAE's name; those of an SAE by layer.
    """
    about = {row["synset_id"]: row for row in nodes}
    drawn = drawn_nodes(nodes)
    inner = {above for _, above, _ in drawn}
    of_pair = {(score["analysis_id"], score["synset_id"]): score for score in scores}
    fixed = [_about(about[node], same) for node, _, same in drawn]
    frames = [
        Frame(
            analysis_id=row["analysis_id"], layer=row["layer"], sae=row["sae"],
            colours=[_colour(of_pair.get((row["analysis_id"], node))) for node, _, _ in drawn],
            customdata=[
                [*words, *_cells(of_pair.get((row["analysis_id"], node)))]
                for words, (node, _, _) in zip(fixed, drawn, strict=True)
            ],
        )
        for row in analyses
    ]  # fmt: skip
    return TaxonomyChart(
        ids=[str(node) for node, _, _ in drawn],
        labels=[plain(short_name(about[node]["synset"])) for node, _, _ in drawn],
        parents=["" if above is None else str(above) for _, above, _ in drawn],
        values=[0 if node in inner else 1 for node, _, _ in drawn],
        frames=frames,
    )


def drawn_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[tuple[int, int | None, list[str]]]:
    """The nodes that are drawn, parents before children: each with its parent, and the names it stands for as well.

    Args:
        nodes: as `taxonomy_chart`.
    """
    about = {row["synset_id"]: row for row in nodes}
    parent_of = {number_: _drawn_parent(row, about) for number_, row in about.items()}
    children: dict[int | None, list[int]] = {}
    for number_, parent in parent_of.items():
        children.setdefault(parent, []).append(number_)
    drawn: list[tuple[int, int | None, list[str]]] = []
    pending: list[tuple[int, int | None]] = [(root, None) for root in reversed(children.get(None, []))]
    while pending:
        node, above = pending.pop()
        same = []
        while above is not None and _stands_for_child(node, children, about):
            same.append(about[node]["synset"])
            (node,) = children[node]
        drawn.append((node, above, same))
        pending += [(child, node) for child in reversed(children.get(node, []))]
    return drawn


def _drawn_parent(row: Mapping[str, Any], about: Mapping[int, Mapping[str, Any]]) -> int | None:
    known = [parent for parent in row["hypernym_ids"] if parent in about]
    return min(known, key=lambda parent: (about[parent]["n_classes"], about[parent]["synset"]), default=None)


def _stands_for_child(
    node: int, children: Mapping[int | None, list[int]], about: Mapping[int, Mapping[str, Any]]
) -> bool:
    below = children.get(node, [])
    return len(below) == 1 and about[below[0]]["n_classes"] == about[node]["n_classes"]


def _about(row: Mapping[str, Any], same: Sequence[str]) -> list[str]:
    """What the pointer says of a node whatever the analysis."""
    classes = "1 class" if row["n_classes"] == 1 else f"{row['n_classes']} classes"
    further = f" (the same as {', '.join(same)})" if same else ""
    return [plain(row["synset"]), plain(f"{classes}, {row['n_images']} images{further}")]


def _colour(score: Mapping[str, Any] | None) -> str:
    if score is None or score["f1_adjusted"] is None:
        return UNKNOWN
    return viridis(score["f1_adjusted"])


def _cells(score: Mapping[str, Any] | None) -> list[str]:
    if score is None or score["f1_adjusted"] is None:
        return ["not defined", "–", "–", "no scored image, or all of them"]
    baseline = number(score["f1_adjusted_baseline"])
    if score["baseline"] is not None:
        baseline += f" ({BASIS_NAMES.get(score['baseline'], score['baseline'])})"
    q = "" if score["q_node"] is None else f"q {number(score['q_node'], 3)}, "
    return [
        number(score["f1_adjusted"]), number(score["f1_adjusted_shuffled"]), baseline,
        f"{q}latent {score['latent']}, {score['n_images']} scored images",
    ]  # fmt: skip


def _slider(frames: Sequence[Frame]) -> Figure:
    steps = [
        {
            "label": str(frame.layer), "method": "restyle",
            "args": [{"marker.colors": [frame.colours], "customdata": [frame.customdata]}, [0]],
        }
        for frame in frames
    ]  # fmt: skip
    return {"active": len(frames) - 1, "currentvalue": {"prefix": "layer "}, "steps": steps, "pad": {"t": 8}}
