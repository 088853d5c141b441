"""Cells of tables that hundreds of rows have: written here, because a template takes ten times as long for them."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from hsae.explorer.shown.numbers import adjusted, basis_name

_WIDTH, _HEIGHT, _TICK = 72, 12, 3


def bar(f1: float | None, baseline: float | None, tree: float | None) -> Markup:
    """A bar of an adjusted F1, with ticks at what the best baseline and the shuffled tree reach at the same node."""
    parts = [f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}"/>']
    if f1 is not None and f1 > 0:
        parts.append(f'<rect class="value" width="{_WIDTH * min(f1, 1.0):.1f}" height="{_HEIGHT}"/>')
    for name, value in (("tree", tree), ("base", baseline)):
        if value is not None and value > 0:
            place = (_WIDTH - _TICK) * min(value, 1.0)
            parts.append(f'<rect class="{name}" x="{place:.1f}" width="{_TICK}" height="{_HEIGHT}"/>')
    label = f"adjusted F1 {adjusted(f1)}, best baseline {adjusted(baseline)}, shuffled tree {adjusted(tree)}"
    size = f'width="{_WIDTH}" height="{_HEIGHT}"'
    svg = f'<svg class="bar" {size} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return Markup(svg)  # noqa: S704 -- numbers and our own words


def null_cells(row: Mapping[str, Any]) -> Markup:
    """The adjusted F1 of a row, what the best baseline and the shuffled tree reach at its node, and the bar of all."""
    f1, baseline, tree = row["f1_adjusted"], row["baseline_adjusted"], row["tree_adjusted"]
    which = "" if baseline is None else f' <span class="which">{escape(basis_name(row["baseline"]))}</span>'
    return Markup(  # noqa: S704 -- numbers, and a name that is escaped
        f'<td class="num strong">{escape(adjusted(f1))}</td>'
        f'<td class="num null">{escape(adjusted(baseline))}{which}</td>'
        f'<td class="num null">{escape(adjusted(tree))}</td><td>{bar(f1, baseline, tree)}</td>'
    )
