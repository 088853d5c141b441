"""A part of the taxonomy as a figure: every node a box, its hyponyms to the right, coloured by its best latent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hsae.report.figures.written import write_figure

_Line = Mapping[str, Any]
_LEAF_INCHES = 0.16
_MAX_INCHES = 60.0
_COLUMN_INCHES = 1.9
_LETTERS_PER_INCH = 13
"""Of a title, whose letters are of 9 points: more would leave the figure."""
_DARK = 0.55
"""Below this value the colours of the scale are dark, and their text is white."""
_NO_LATENT = "0.92"


def tree_figure(lines: Sequence[_Line], title: str, path: Path) -> None:
    """Draw the lines of a tree as an icicle, and write it.

    A box is as high as the lines under it are many. Its colour is the adjusted F1 of the node's best latent, from 0 to
    1 (below 0 counts as 0); grey: no latent fires. `?` stands where the test of the node has a q-value above 0.01.

    Args:
        lines: from `hsae.report.tree.tree_lines`, with `f1_adjusted`, `q_node` and `latent`.
        title: of the figure.
        path: of the file, which ends in .png, .svg or .pdf.

    Raises:
        UserError: the file cannot be written.
    """
    values = [None if line["f1_adjusted"] is None else max(0.0, line["f1_adjusted"]) for line in lines]
    scale = ScalarMappable(Normalize(0, 1), colormaps["cividis"])
    about = "adjusted F1 of the best latent; grey: none fires; ?: q > 0.01"
    coloured = _Coloured(values, [_label(line) for line in lines], scale, _is_dark)
    _draw(lines, coloured, (title, about), path)


def edited_tree_figure(lines: Sequence[_Line], unit: str, title: str, about: str, path: Path) -> None:
    """Draw the lines of a tree coloured by what an edit took away, and write it: red lost, blue gained.

    Args:
        lines: from `hsae.report.tree.tree_lines`, with `drop`; None is grey.
        unit: of the drop, for people.
        title: of the figure.
        about: sentences below it.
        path: of the file, which ends in .png, .svg or .pdf.

    Raises:
        UserError: the file cannot be written.
    """
    values = [line["drop"] for line in lines]
    greatest = max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    labels = [f"{line['synset']} {line['drop']:+.2f}" if line["drop"] is not None else line["synset"] for line in lines]
    shades = [None if value is None else (value / greatest + 1) / 2 for value in values]
    scale = ScalarMappable(Normalize(-greatest, greatest), colormaps["RdBu_r"])

    width = _width(1 + max(line["level"] for line in lines))
    title += "".join(f"\n{line}" for line in wrap(about, int(width * _LETTERS_PER_INCH)))

    def is_dark(shade: float) -> bool:
        return abs(shade - 0.5) > _DARK / 2

    _draw(
        lines,
        _Coloured(shades, labels, scale, is_dark),
        (title, f"{unit} lost; below 0: gained; grey: not defined"),
        path,
    )


@dataclass(frozen=True, slots=True)
class _Coloured:
    """What stands in the boxes: places on the colours of the scale, 0 to 1, texts, and where the text is white."""

    shades: Sequence[float | None]
    labels: Sequence[str]
    scale: ScalarMappable
    is_dark: Callable[[float], bool]


def _is_dark(shade: float) -> bool:
    return shade < _DARK


def _draw(lines: Sequence[_Line], coloured: _Coloured, texts: tuple[str, str], path: Path) -> None:
    """Draw with a title and a text beside the scale."""
    places = icicle(lines)
    n_leaves, n_levels = max(top + size for top, size in places), 1 + max(line["level"] for line in lines)
    inches = min(_MAX_INCHES, 1.2 + _LEAF_INCHES * n_leaves)
    font = min(7.0, 72 * 0.75 * (inches - 1.2) / n_leaves)
    figure = Figure(figsize=(_width(n_levels), inches), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    boxes = zip(lines, places, coloured.shades, coloured.labels, strict=True)
    for line, (top, size), shade, label in boxes:
        colour = _NO_LATENT if shade is None else coloured.scale.cmap(shade)
        axes.add_patch(Rectangle((line["level"], top), 1, size, facecolor=colour, edgecolor="white", linewidth=0.6))
        axes.text(
            line["level"] + 0.02, top + size / 2, label, fontsize=font, verticalalignment="center", clip_on=True,
            color="white" if shade is not None and coloured.is_dark(shade) else "black",
        )  # fmt: skip
    axes.set_xlim(0, n_levels)
    axes.set_ylim(n_leaves, 0)
    axes.set_axis_off()
    axes.set_title(texts[0], fontsize=9, loc="left")
    bar = figure.colorbar(coloured.scale, ax=axes, location="bottom", shrink=0.4, aspect=40, pad=0.01)
    bar.set_label(texts[1], fontsize=8)
    write_figure(figure, path)


def _width(n_levels: int) -> float:
    """Of the figure, in inches."""
    return 1.5 + _COLUMN_INCHES * n_levels


def icicle(lines: Sequence[_Line]) -> list[tuple[int, int]]:
    """First leaf and number of leaves of every line, counted from the top; a line without lines below it is a leaf."""
    top = [0] * len(lines)
    size = [1] * len(lines)
    n_leaves = 0
    open_lines: list[int] = []
    for number, line in enumerate(lines):
        while open_lines and lines[open_lines[-1]]["level"] >= line["level"]:
            open_lines.pop()
        top[number] = n_leaves
        open_lines.append(number)
        is_leaf = number + 1 == len(lines) or lines[number + 1]["level"] <= line["level"]
        if is_leaf:
            n_leaves += 1
            for above in open_lines:
                size[above] = n_leaves - top[above]
    return list(zip(top, size, strict=True))


def _label(line: _Line) -> str:
    value, q = line["f1_adjusted"], line["q_node"]
    if value is None:
        return str(line["synset"])
    return f"{line['synset']} {value:.2f}{'?' if q is None or q > 0.01 else ''}"
