"""Which numbers are better when they are greater, and which when they are smaller: arrows in headings, and a legend."""

from collections.abc import Iterable, Mapping, Sequence
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
        "adjusted_implication", "latent_f1", "direction_f1", "f1_adjusted_a", "f1_adjusted_b", "bits", "cosine",
        "cknna", "knn_accuracy", "nn_accuracy", "best_f1_adjusted_inner", "best_f1_adjusted_pair",
        "best_f1_adjusted_single", "best_f1_adjusted", "share_nodes_rarefied", "share_nodes_q",
        "f1_adjusted_inner_mean", "f1_adjusted_mean", "coherence_excess_weighted", "lch_excess_mean", "purity_mean",
        "best_f1_inner_mean", "best_f1_mean", "share_nodes_f1", "label_f1_mean", "monosemanticity_mean",
    ),
    LESS: (
        "fvu", "agreement_height", "cost", "moved_through_sae", "cross_entropy", "cross_entropy_through_sae",
        "train_fvu", "dead_share", "holdout_dead_share", "train_dead_share", "silent_share", "absorbed_share",
    ),
}  # fmt: skip
"""By the keys of rows. A null has no arrow: it is what a number is compared with. Neither has p or q, which say how
sure one is of a number, nor what is good in one place and bad in another, as a drop in accuracy at some distance. Nor
have LCH height, coverage and miss rate, which depend on how often a latent fires.
"""
_ARROWS = {key: arrow for arrow, keys in _BETTER.items() for key in keys}


def marked(columns: Mapping[str, str]) -> dict[str, str]:
    """The headings of columns, with an arrow at the end of the first line where more, or less, is better."""
    return {key: _with_arrow(heading, _ARROWS[key]) if key in _ARROWS else heading for key, heading in columns.items()}


def legend(columns: Iterable[str]) -> str | None:
    """What the arrows of these columns mean, by their keys; None where there are none."""
    found = {_ARROWS.get(key) for key in columns}
    return _LEGENDS.get(tuple(arrow for arrow in (MORE, LESS) if arrow in found))


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
    if rows and not as_json:
        print_legend(columns)


def print_legend(columns: Iterable[str]) -> None:
    """Print what the arrows of these columns mean, below tables; nothing where there are none."""
    meaning = legend(columns)
    if meaning is not None:
        click.echo(f"\n{meaning}")


def _with_arrow(heading: str, arrow: str) -> str:
    """Blanks that end a heading stay its end: they tell it from another of the same words."""
    above = heading[: len(heading) - len(heading.lstrip("\n"))]
    first, *others = heading.lstrip("\n").split("\n")
    words = first.rstrip(" ")
    return above + "\n".join([f"{words} {arrow}{first[len(words) :]}", *others])
