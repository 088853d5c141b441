"""What a study did not measure, in sentences, from the rows of its analyses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hsae.hierarchy.config import MIN_PURE_CLASSES
from hsae.report.ranges import ranges
from hsae.vocabulary.bases import BASELINES, BASIS_NAMES

_Rows = Sequence[Mapping[str, Any]]


def unmeasured_text(rows: _Rows, *, in_sample: bool, skipped: Sequence[tuple[str, int, int]]) -> list[str]:
    """A sentence for everything that a reader may look for in vain.

    Args:
        rows: of `measured_analyses`, one per analysis.
        in_sample: whether the study has no split.
        skipped: data set, skipped images, all images, of each data set with skipped ones.
    """
    sentences = []
    if in_sample:
        sentences.append(
            "Held-out numbers: the study has no split, so every image trained the SAEs, chose latents and is scored."
        )
    sentences += [
        f"{n_skipped:,} of {n_images:,} images of {name} could not be read and are left out (`hsae-admin jobs show`"
        " names them)."
        for name, n_skipped, n_images in skipped
    ]
    for is_missing, sentence in _GAPS:
        missing = [row for row in rows if is_missing(row)]
        if missing:
            sentences.append(f"{sentence} {_where(missing, rows)}.")
    reasons: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["probe_undefined"]:
            reasons.setdefault(row["probe_undefined"], []).append(row)
    sentences += [f"Probes of the raw activations: {why} ({_where(of, rows)})." for why, of in reasons.items()]
    for basis in BASELINES:
        missing = [row for row in rows if basis not in (row["bases"] or ())]
        if missing:
            sentences.append(f"The baseline {BASIS_NAMES[basis]} was not asked for {_where(missing, rows)}.")
    if rows and not any(row["has_stability"] for row in rows):
        sentences.append(
            "Stability of latents over seeds: every SAE was trained with one seed (`seeds: 5` trains more)."
        )
    return sentences


_GAPS: tuple[tuple[Callable[[Mapping[str, Any]], bool], str], ...] = (
    (
        lambda row: row["holdout_l0"] is None,
        "FVU and L0 of held-out rows: the SAEs were trained on every row",
    ),
    (
        lambda row: not row["has_intervals"],
        "Intervals: no classes were deleted (`n_replicates`)",
    ),
    (
        lambda row: row["has_intervals"] and row["has_bare_purity"],
        f"An interval of mean purity: fewer than {MIN_PURE_CLASSES} classes have two images among the strongest of a"
        " latent",
    ),
    (
        lambda row: not row["has_tree_shuffles"],
        "The range of shuffled taxonomies: none was drawn for the headline numbers (`n_tree_shuffles`)",
    ),
    (
        lambda row: "shuffled_taxonomy" not in (row["bases"] or ()),
        "Nodes under a shuffled taxonomy: none was scored (`n_shuffles`)",
    ),
    (
        lambda row: not row["has_probe"],
        "Probes of the raw activations: there are none",
    ),
    (
        lambda row: not row["n_lch_eligible"],
        "LCH excess: no latent fires on 16 scored images of two classes or more",
    ),
    (
        lambda row: not row["has_maps"],
        "Relevancy maps, where in an image a latent comes from: none were made (`submit` as before with `--maps 32`"
        " makes them and reuses the rest)",
    ),
)
"""What an analysis may lack, and the beginning of the sentence that says so."""


def _where(missing: _Rows, rows: _Rows) -> str:
    """In which of the analyses: in all, or in which layers."""
    if len(missing) == len(rows):
        return "in any analysis" if len(rows) > 1 else "in the analysis"
    layers = sorted({row["layer"] for row in missing})
    word = "layer" if len(layers) == 1 else "layers"
    whole = {row["layer"] for row in rows} - {row["layer"] for row in rows if row not in missing}
    some = "" if set(layers) <= whole else " of some SAEs"
    return f"in {word} {ranges(layers)}{some}"
