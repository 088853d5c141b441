"""The nodes of the taxonomy that an SAE knows best, each beside its nulls."""

from collections.abc import Mapping, Sequence
from typing import Any

from hsae.report.charts.names import distinct_names, plain
from hsae.report.charts.theme import BASELINE, CHANCE, SAE_COLOURS, Figure, axis, layout, number
from hsae.vocabulary.bases import BASIS_NAMES

Row = dict[str, Any]

MIN_IMAGES = 5
"""Scored images that a node must have: fewer are matched by luck."""
MIN_CLASSES = 3
SURE = 0.05
"""The greatest q-value, corrected for the choice among layers, of a node that counts as found."""


def known_nodes(
    scores: Sequence[Mapping[str, Any]], nodes: Sequence[Mapping[str, Any]], layers: Mapping[int, int]
) -> tuple[list[Row], int]:
    """The inner nodes with the greatest adjusted F1 at any layer; each latent counts once.

    The controls have the same choice among layers as the SAE.

    Args:
        scores: rows of `node_null_rows` of one SAE setting.
        nodes: rows of `tree_nodes`: synset_id, synset, n_classes.
        layers: the layer of each analysis.

    Returns:
        Rows with synset, synset_id, n_classes, n_images, layer, analysis_id, latent, f1_adjusted, q (that of the node
        there times the number of layers, 1 at most), is_found (q at most `SURE`), `baseline`, `baseline_name`,
        `shuffled`; and how many nodes there are, also those whose latent stands at another.
    """
    about = {row["synset_id"]: row for row in nodes}
    of_node: dict[int, list[Mapping[str, Any]]] = {}
    for score in scores:
        node = about.get(score["synset_id"])
        fits = node is not None and node["n_classes"] >= MIN_CLASSES and score["n_images"] >= MIN_IMAGES
        if fits and score["f1_adjusted"] is not None and score["is_distinct"] is not False:
            of_node.setdefault(score["synset_id"], []).append(score)
    n_layers = len(set(layers.values()))
    found = []
    for number_, group in of_node.items():
        best = max(group, key=lambda score: (score["f1_adjusted"], -layers[score["analysis_id"]]))
        q = None if best["q_node"] is None else min(1.0, best["q_node"] * n_layers)
        beaten = max(
            (score for score in group if score["f1_adjusted_baseline"] is not None),
            key=lambda score: score["f1_adjusted_baseline"],
            default=None,
        )
        shuffled = [s["f1_adjusted_shuffled"] for s in group if s["f1_adjusted_shuffled"] is not None]
        found.append(
            {
                "synset": about[number_]["synset"], "synset_id": number_, "n_classes": about[number_]["n_classes"],
                "n_images": best["n_images"], "layer": layers[best["analysis_id"]],
                "analysis_id": best["analysis_id"], "latent": best["latent"], "f1_adjusted": best["f1_adjusted"],
                "q": q, "is_found": q is not None and q <= SURE,
                "baseline": None if beaten is None else beaten["f1_adjusted_baseline"],
                "baseline_name": None if beaten is None else BASIS_NAMES.get(beaten["baseline"], beaten["baseline"]),
                "shuffled": max(shuffled, default=None),
            }
        )  # fmt: skip
    found.sort(key=lambda row: (-row["f1_adjusted"], row["synset"]))
    once: dict[tuple[int, int], Row] = {}
    for row in found:
        once.setdefault((row["analysis_id"], row["latent"]), row)
    return list(once.values()), len(found)


def known_nodes_figure(rows: Sequence[Mapping[str, Any]], sae: str) -> Figure:
    """A row of dots per node, the best at the top: the SAE's latent, the best baseline, the shuffled tree.

    A hollow dot is a node that the exact test does not find.

    Args:
        rows: from `known_nodes`.
        sae: the SAE's name.
    """
    shown = list(reversed(rows))
    names = [plain(name) for name in distinct_names([row["synset"] for row in shown])]
    lines: Figure = {
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False,
        "x": [x for row in shown for x in (row["shuffled"] or 0.0, row["f1_adjusted"], None)],
        "y": [y for name in names for y in (name, name, None)], "line": {"color": CHANCE, "width": 1},
    }  # fmt: skip
    dots = [
        _dots(names, [row["shuffled"] for row in shown], "shuffled tree", CHANCE, "line-ns-open",
              ["shuffled tree" for _ in shown]),
        _dots(names, [row["baseline"] for row in shown], "best baseline", BASELINE, "diamond-open",
              [row["baseline_name"] or "" for row in shown]),
        _dots(names, [row["f1_adjusted"] for row in shown], plain(sae), SAE_COLOURS[0],
              ["circle" if row["is_found"] else "circle-open" for row in shown],
              [f"layer {row['layer']}, latent {row['latent']}, q {number(row['q'], 3)}" for row in shown]),
    ]  # fmt: skip
    reached = [x for row in rows for x in (row["f1_adjusted"], row["baseline"] or 0.0)]
    figure_layout = layout(
        xaxis=axis("adjusted F1", range=[min(0.0, *reached) - 0.03, max(1.0, *reached) + 0.03] if reached else [0, 1]),
        yaxis=axis("", type="category"),
    )
    return {"data": [lines, *dots], "layout": figure_layout}


def _dots(
    names: list[str], values: list[float | None], name: str, colour: str, symbol: str | list[str], about: list[str]
) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "x": values, "y": names, "name": name, "customdata": about,
        "marker": {"color": colour, "symbol": symbol, "size": 11, "line": {"width": 2, "color": colour}},
        "hovertemplate": "%{y}: %{x:.2f}<br>%{customdata}<extra></extra>",
    }  # fmt: skip
