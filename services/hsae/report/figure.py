"""Scores by layer as one picture."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hsae.backbones.names import short_model_name
from hsae.report.figures.numbers import values
from hsae.report.figures.palette import EXEMPLARS, RANDOM, SHUFFLED, colours
from hsae.report.figures.written import write_figure
from hsae.report.ranges import ranges
from hsae.sae.variants import VARIANTS
from hsae.split_config import IN_SAMPLE
from hsae.vocabulary.bases import BASIS_NAMES

_Rows = Sequence[Mapping[str, Any]]
_CONTROL_STYLE = {
    "exemplar": (EXEMPLARS, "-", BASIS_NAMES["exemplar"]),
    "random": (RANDOM, "-", BASIS_NAMES["random"]),
}
_BANDS = {"coherence_excess": "coherence_excess", "best_f1_adjusted_inner": "f1_adjusted_inner"}
"""Scores with an interval, and what its ends are called after."""

_MOST_BANDS = 3
"""Of so many lines the bands are told apart where they overlap."""
_WIDTH = 0.4
"""Of the settings of a layer side by side, in layers."""


class _Panel(NamedTuple):
    """One score over depth; `tree` is its mean under shuffled taxonomies, None where controls have no such score."""

    score: str
    heading: str
    unit: str
    tree: str | None = None
    from_zero: bool = True


_PANELS = {
    "chance": (
        _Panel("coherence_excess", "taxonomic coherence beyond chance", "bits, mean over latents",
               "coherence_excess_tree", from_zero=False),
        _Panel("best_f1_adjusted_inner", "adjusted best F1 of inner nodes (≥ 3 classes)", "mean over nodes",
               "f1_adjusted_inner_tree"),
        _Panel("share_nodes_q", "nodes that some latent finds (exact test)", "share of nodes with q < 0.01",
               "share_nodes_q_shuffled_taxonomy"),
        _Panel("lch_excess", "lowest common hypernym, smaller than by chance", "bits, mean over latents",
               "lch_excess_tree", from_zero=False),
        _Panel("fvu", "variance unexplained (held-out images)", "FVU"),
        _Panel("probe_accuracy", "linear probe of the raw activations", "held-out accuracy"),
    ),
    "paper": (
        _Panel("lch_height_raw", "LCH height", "raw mean over latents that fire", "lch_height_raw_tree"),
        _Panel("coverage_raw", "ontological coverage", "raw mean over latents that fire", "coverage_raw_tree"),
    ),
}  # fmt: skip


def figure_title(rows: _Rows, protocol: str) -> str:
    """The backbones and data sets of the rows, and whether their scores are in-sample, as the paper's protocol has it.

    Args:
        rows: with `model`, `dataset` and `in_sample`.
        protocol: `chance` or `paper`.
    """
    found: dict[str, set[bool]] = {}
    for row in rows:
        found.setdefault(f"{short_model_name(row['model'])} on {row['dataset']}", set()).add(bool(row["in_sample"]))
    how = {(True,): IN_SAMPLE, (False,): "held out", (False, True): f"held out and {IN_SAMPLE}"}
    what = ", ".join(f"{name} ({how[tuple(sorted(kinds))]})" for name, kinds in found.items())
    if protocol != "paper":
        return what
    if all(row["in_sample"] for row in rows):
        return f"{what}: the paper's protocol, raw means of all latents"
    return f"{what}: the paper's protocol but for the images ({IN_SAMPLE} there: submit --split none)"


def layer_figure(rows: _Rows, title: str, path: Path, protocol: str = "chance") -> None:
    """Draw scores along depth from the rows of `with_headlines`, and write them as PNG, SVG or PDF.

    Every SAE setting (`sae`, its name; without it the kind) has a line in each panel. One setting of a kind stands
    beside all of its controls; of several, each beside its shuffled taxonomy alone, in its own colour. A panel names
    the layers in which its score is undefined.

    Args:
        rows: one per analysis.
        title: of the picture.
        path: of the file.
        protocol: `chance`: what is corrected for chance; `paper`: LCH height and coverage as the paper has them.

    Raises:
        UserError: the file cannot be written.
    """
    panels = _PANELS[protocol]
    n_rows = 1 if len(panels) < 3 else 2
    figure = Figure(figsize=(13, 3.6 * n_rows + (1.2 if n_rows == 1 else 0)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        settings.setdefault(row.get("sae") or row["sae_kind"], []).append(row)
    kinds = [group[0]["sae_kind"] for group in settings.values()]
    draw = _draw_kinds if len(set(kinds)) == len(kinds) else _draw_sweep
    for axes, panel in zip(figure.subplots(n_rows, len(panels) // n_rows).flat, panels, strict=True):
        if panel.score == "probe_accuracy":  # the layer's, whatever the SAE
            for curve in _probes(settings.values()):
                axes.plot(*zip(*curve, strict=True), color="0.35", marker=".")
        else:
            draw(axes, settings, panel)
        axes.set_title(panel.heading, fontsize=10)
        axes.set_ylabel(panel.unit, fontsize=9)
        if panel.from_zero:
            axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[-(len(panels) // n_rows) :]:
        axes.set_xlabel("layer (block, from 0)")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    write_figure(figure, path)


def _draw_kinds(axes: Axes, settings: Mapping[str, _Rows], panel: _Panel) -> None:
    """One setting of each kind, beside all of its controls."""
    score, undefined = panel.score, []
    for rows in sorted(settings.values(), key=lambda rows: rows[0]["sae_kind"]):
        kind = rows[0]["sae_kind"]
        layers = [row["layer"] for row in rows]
        style, name = VARIANTS[kind].style, VARIANTS[kind].title
        axes.plot(layers, values(rows, score), color=style.colour, marker=style.marker, markersize=4, label=name)
        if score in _BANDS:
            low, high = (values(rows, f"{_BANDS[score]}_{end}") for end in ("low", "high"))
            axes.fill_between(layers, low, high, color=style.colour, alpha=0.15, linewidth=0)
        if panel.tree is None:
            continue
        missing = [layer for layer, value in zip(layers, values(rows, score), strict=True) if math.isnan(value)]
        undefined += [f"{kind} {ranges(missing)}"] if missing else []
        lines = {f"{score}_{control}": look for control, look in _CONTROL_STYLE.items()}
        for name, (colour, line, control_name) in (lines | {panel.tree: _tree_style(panel)}).items():
            axes.plot(
                layers,
                values(rows, name),
                color=colour,
                linestyle=line,
                linewidth=style.control_width,
                label=f"{control_name} ({kind})",
            )
    if undefined:
        axes.text(
            0.02, 0.97, f"undefined: {'; '.join(undefined)}", transform=axes.transAxes, verticalalignment="top",
            fontsize=8, color="0.35", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7},
        )  # fmt: skip


def _tree_style(panel: _Panel) -> tuple[str, str, str]:
    """Colour, line and name of the shuffled taxonomy: many shuffles, or the few that are scored in full."""
    if panel.tree == f"{panel.score}_shuffled_taxonomy":
        return SHUFFLED, ":", "shuffled taxonomy, few shuffles"
    return SHUFFLED, "--", "shuffled taxonomy"


def _draw_sweep(axes: Axes, settings: Mapping[str, _Rows], panel: _Panel) -> None:
    """Several settings of a kind: all controls of all of them would hide the lines that are to be compared.

    Intervals are bands; of many settings, which would cover each other, bars, the settings a little beside each other.
    """
    n, has_interval = len(settings), panel.score in _BANDS
    for i, ((name, rows), colour) in enumerate(zip(settings.items(), colours(n), strict=True)):
        aside = _WIDTH * ((i + 0.5) / n - 0.5) if has_interval and n > _MOST_BANDS else 0.0
        layers = [row["layer"] + aside for row in rows]
        marker = VARIANTS[rows[0]["sae_kind"]].style.marker
        axes.plot(layers, values(rows, panel.score), color=colour, marker=marker, markersize=4, label=name)
        if has_interval:
            low, high = (values(rows, f"{_BANDS[panel.score]}_{end}") for end in ("low", "high"))
            if n <= _MOST_BANDS:
                axes.fill_between(layers, low, high, color=colour, alpha=0.15, linewidth=0)
            else:
                axes.vlines(layers, low, high, color=colour, linewidth=0.9, alpha=0.8)
        shuffled = [math.nan] if panel.tree is None else values(rows, panel.tree)
        if not all(map(math.isnan, shuffled)):
            axes.plot(layers, shuffled, color=colour, linestyle="--", linewidth=0.8)
    if panel.tree is not None:
        axes.plot([], [], color="0.35", linestyle="--", linewidth=0.8, label="each with the taxonomy shuffled")


def _probes(groups: Iterable[_Rows]) -> list[list[tuple[int, float]]]:
    """The different curves of the probe: SAEs of the same activations share one."""
    curves = [
        [(row["layer"], value) for row, value in zip(g, values(g, "probe_accuracy"), strict=True)] for g in groups
    ]
    return list({repr(curve): curve for curve in curves}.values())
