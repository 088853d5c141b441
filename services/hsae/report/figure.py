"""Scores by layer as one picture."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hsae.errors import UserError
from hsae.sae.variants import VARIANTS

_Rows = Sequence[Mapping[str, Any]]
_CONTROL_STYLE = {
    "exemplar": ("C6", "-", "exemplars"),
    "random": ("C1", "-", "random directions"),
    "shuffled_taxonomy": ("C2", "--", "shuffled taxonomy"),
}
_BANDS = {"coherence_excess": "coherence_excess", "best_f1_adjusted_inner": "f1_adjusted_inner"}
"""Scores with an interval, and what its ends are called after."""
_PANELS = (
    ("coherence_excess", "taxonomic coherence beyond chance", "bits, mean over latents", True),
    ("best_f1_adjusted_inner", "adjusted best F1 of inner nodes (≥ 3 classes)", "mean over nodes", True),
    ("share_nodes_q", "nodes that some latent finds (exact test)", "share of nodes with q < 0.01", True),
    ("lch_excess", "lowest common hypernym, smaller than by chance", "bits, mean over latents", True),
    ("fvu", "variance unexplained (held-out images)", "FVU", False),
    ("probe_accuracy", "linear probe of the raw activations", "held-out accuracy", False),
)


def layer_figure(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw scores along depth from the rows of `beside_controls`, and write them as a PNG.

    Every SAE setting (`sae`, its name; without it the kind) has a line in each panel. One setting of a kind stands
    beside all of its controls; of several, each beside its shuffled taxonomy alone, in its own colour.

    Raises:
        UserError: when the file cannot be written.
    """
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    settings: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        settings.setdefault(row.get("sae") or row["sae_kind"], []).append(row)
    kinds = [group[0]["sae_kind"] for group in settings.values()]
    draw = _draw_kinds if len(set(kinds)) == len(kinds) else _draw_sweep
    for axes, (score, heading, unit, controls) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        if score == "probe_accuracy":  # the layer's, whatever the SAE
            for curve in _probes(settings.values()):
                axes.plot(*zip(*curve, strict=True), color="0.35", marker=".")
        else:
            draw(axes, settings, score, controls=controls)
        axes.set_title(heading, fontsize=10)
        axes.set_ylabel(unit, fontsize=9)
        if score not in ("coherence_excess", "lch_excess"):  # which may be below chance
            axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in figure.axes[3:]:
        axes.set_xlabel("layer (block, from 0)")
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(aside, dpi=110, format="png")
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise UserError(f"{path} cannot be written ({error.strerror or error})") from error


def _draw_kinds(axes: Axes, settings: Mapping[str, _Rows], score: str, *, controls: bool) -> None:
    """One setting of each kind, beside all of its controls."""
    for rows in sorted(settings.values(), key=lambda rows: rows[0]["sae_kind"]):
        kind = rows[0]["sae_kind"]
        layers = [row["layer"] for row in rows]
        style, name = VARIANTS[kind].style, VARIANTS[kind].title
        axes.plot(layers, _values(rows, score), color=style.colour, marker=style.marker, markersize=4, label=name)
        if score in _BANDS:
            low, high = (_values(rows, f"{_BANDS[score]}_{end}") for end in ("low", "high"))
            axes.fill_between(layers, low, high, color=style.colour, alpha=0.15, linewidth=0)
        for control, (control_colour, line, control_name) in _CONTROL_STYLE.items() if controls else ():
            axes.plot(
                layers,
                _values(rows, f"{score}_{control}"),
                color=control_colour,
                linestyle=line,
                linewidth=style.control_width,
                label=f"{control_name} ({kind})",
            )


def _draw_sweep(axes: Axes, settings: Mapping[str, _Rows], score: str, *, controls: bool) -> None:
    """Several settings of a kind: all controls of all of them would hide the lines that are to be compared."""
    for (name, rows), colour in zip(settings.items(), _colours(len(settings)), strict=True):
        layers = [row["layer"] for row in rows]
        marker = VARIANTS[rows[0]["sae_kind"]].style.marker
        axes.plot(layers, _values(rows, score), color=colour, marker=marker, markersize=4, label=name)
        shuffled = _values(rows, f"{score}_shuffled_taxonomy")
        if controls and not all(map(math.isnan, shuffled)):
            axes.plot(layers, shuffled, color=colour, linestyle="--", linewidth=0.8)
    if controls:
        axes.plot([], [], color="0.35", linestyle="--", linewidth=0.8, label="each with the taxonomy shuffled")


def _colours(n: int) -> list[Any]:
    """As many colours as there are settings: distinct ones while there are enough, else along a scale."""
    return [f"C{i}" for i in range(n)] if n <= 10 else [colormaps["turbo"]((i + 0.5) / n) for i in range(n)]


def _probes(groups: Iterable[_Rows]) -> list[list[tuple[int, float]]]:
    """The different curves of the probe: SAEs of the same activations share one."""
    curves = [
        [(row["layer"], value) for row, value in zip(g, _values(g, "probe_accuracy"), strict=True)] for g in groups
    ]
    return list({repr(curve): curve for curve in curves}.values())


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float("nan") if row.get(name) is None else float(row[name]) for row in rows]
