"""Scores by layer as one picture."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hsae.errors import UserError

_SAE_STYLE = {"relu": ("C0", "o", "ReLU SAE"), "topk": ("C3", "s", "TopK SAE")}
_CONTROL_STYLE = {
    "neuron": ("0.35", "-", "raw neurons"),
    "random": ("C1", "-", "random directions"),
    "untrained": ("C4", "-.", "untrained SAE"),
    "shuffled_taxonomy": ("C2", "--", "shuffled taxonomy"),
    "shuffled_labels": ("0.65", ":", "shuffled labels"),
}
_PANELS = (
    ("share_nodes_f1", "nodes with a latent of F1 ≥ 0.5", "share of taxonomy nodes", True),
    ("best_f1_inner", "best F1 of inner nodes (≥ 3 classes)", "mean over nodes", True),
    ("lch_height", "height of the lowest common hypernym", "mean over alive latents", True),
    ("coverage", "ontological coverage", "mean over alive latents", True),
    ("fvu", "variance unexplained (held-out images)", "FVU", False),
    ("probe_accuracy", "linear probe of the raw activations", "held-out accuracy", False),
)


def layer_figure(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw scores along depth from the rows of `beside_controls`, and write them as a PNG.

    Raises:
        UserError: when the file cannot be written.
    """
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    kinds = [kind for kind in _SAE_STYLE if any(row["sae_kind"] == kind for row in rows)]
    for axes, (score, heading, unit, controls) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        for kind in kinds:
            _draw_kind(axes, [row for row in rows if row["sae_kind"] == kind], kind, score, controls=controls)
        axes.set_title(heading, fontsize=10)
        axes.set_ylabel(unit, fontsize=9)
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


def _draw_kind(axes: Axes, rows: Sequence[Mapping[str, Any]], kind: str, score: str, *, controls: bool) -> None:
    layers = [row["layer"] for row in rows]
    colour, marker, name = _SAE_STYLE[kind]
    if score == "probe_accuracy":  # the layer's, whatever the SAE
        axes.plot(layers, [row[score] for row in rows], color="0.35", marker=".")
        return
    axes.plot(layers, _values(rows, score), color=colour, marker=marker, markersize=4, label=name)
    if controls:
        for control, (control_colour, line, control_name) in _CONTROL_STYLE.items():
            label = f"{control_name} ({kind})"
            width = 1.0 if kind == "relu" else 1.8
            axes.plot(
                layers,
                _values(rows, f"{score}_{control}"),
                color=control_colour,
                linestyle=line,
                linewidth=width,
                label=label,
            )


def _values(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float("nan") if row.get(name) is None else float(row[name]) for row in rows]
