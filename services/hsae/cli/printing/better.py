"""Which numbers are better when they are greater, and which when they are smaller: arrows in headings, and a legend."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hsae.cli.printing.output import print_rows

MORE, LESS = "↑", "↓"
BOTH_LEGEND = f"{MORE} {LESS}: more, or less, is better."
_LEGENDS = {(MORE,): f"{MORE}: more is better.", (LESS,): f"{LESS}: less is better.", (MORE, LESS): BOTH_LEGEND}
_BETTER = {
    MORE: (
        "coherence", "inner_f1", "coherence_excess", "purity", "lch_excess", "probe_accuracy", "f1", "f1_adjusted",
        "precision", "recall", "auroc", "label_effect", "seed_stability", "score", "margin", "n_agree", "specificity",
        "forgetting", "retention", "specificity_difference", "accuracy", "accuracy_through_sae", "log_odds",
        "log_odds_through_sae", "loss_recovered_mean", "loss_recovered_zero", "effect", "accuracy_effect",
    ),
    LESS: ("fvu", "agreement_height", "cost", "moved_through_sae", "cross_entropy", "cross_entropy_through_sae"),
}  # fmt: skip
"""By the keys of rows. A null has no arrow: it is what a number is compared with. Neither has p or q, which say how
sure one is of a number, nor what is good in one place and bad in another, as a drop in accuracy at some distance.
"""
_ARROWS = {key: arrow for arrow, keys in _BETTER.items() for key in keys}


def marked(columns: Mapping[str, str]) -> dict[str, str]:
    """The headings of columns, with an arrow at the end of the first line where more, or less, is better."""
    return {key: _with_arrow(heading, _ARROWS[key]) if key in _ARROWS else heading for key, heading in columns.items()}


def legend(columns: Mapping[str, str]) -> str | None:
    """What the arrows of these columns mean; None where there are none."""
    return _LEGENDS.get(tuple(arrow for arrow in (MORE, LESS) if any(_ARROWS.get(key) == arrow for key in columns)))


def print_marked_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    empty: str,
    title: str | None = None,
    importance: Sequence[str] = (),
) -> None:
    """Print a listing as `print_rows` does, people's with arrows in the headings and the legend below."""
    print_rows(rows, marked(columns), as_json=as_json, empty=empty, title=title, importance=importance)
    meaning = legend(columns)
    if rows and not as_json and meaning is not None:
        click.echo(f"\n{meaning}")


def _with_arrow(heading: str, arrow: str) -> str:
    """Blanks that end a heading stay its end: they tell it from another of the same words."""
    above = heading[: len(heading) - len(heading.lstrip("\n"))]
    first, *others = heading.lstrip("\n").split("\n")
    words = first.rstrip(" ")
    return above + "\n".join([f"{words} {arrow}{first[len(words) :]}", *others])
