"""Names of analyses in a listing, made of the settings in which they differ."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hsae.backbones.names import short_model_name
from hsae.catalog.queries.analysis_settings import analysis_settings
from hsae.report.setting_names import setting_names, told_apart
from hsae.split_config import IN_SAMPLE, IN_SAMPLE_MEANING

_IN_EVERY_TITLE = {"kind", "expansion", "tokens", "model", "dataset"}
_Settings = dict[str, Any]
"""What `analysis_settings` has of one analysis."""


def name_saes(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Add to rows with an `analysis_id` the name of the analysis among those of all rows, as `sae`."""
    names = analysis_names(session, {row["analysis_id"] for row in rows if row.get("analysis_id") is not None})
    for row in rows:
        row["sae"] = names.get(row.get("analysis_id") or 0)


def describe_analyses(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """As `name_saes`; also whether the analysis is `in_sample`, and which `half` of the images it scores.

    `half` is None where the images are not in two halves.
    """
    settings = analysis_settings(session, {row["analysis_id"] for row in rows if row.get("analysis_id") is not None})
    names = names_of(settings)
    for row in rows:
        found = settings.get(row.get("analysis_id") or 0)
        row["sae"] = names.get(row.get("analysis_id") or 0)
        row["in_sample"] = None if found is None else is_in_sample(found)
        row["half"] = None if found is None else found["half"]


def analysis_names(session: Session, analysis_ids: Collection[int]) -> dict[int, str]:
    """The shortest names of analyses: the SAE's kind, then the settings that are not the same in all of them."""
    return names_of(analysis_settings(session, analysis_ids))


def names_of(found: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    """As `analysis_names`, from the `analysis_settings` of the analyses."""
    whole = {number: row["sae"] | row["activations"] | row["scoring"] for number, row in found.items()}
    layers = {number: row["layer"] for number, row in found.items()}
    return told_apart(setting_names(whole, always=("kind",)), layers)


def analysis_titles(session: Session, analysis_ids: Collection[int]) -> dict[int, str]:
    """Titles of analyses: `topk SAE x8 (k=16), cls of dinov2-base, birds`, with `, in-sample` where that is so.

    Where another data set is scored, it comes last: `..., birds, scored on birds-val`.

    The brackets contain the settings that are not the same in all SAEs of a kind; two kinds differ by their names.
    """

    def title(row: _Settings, brackets: str) -> str:
        sae = row["sae"]
        is_to_say = is_in_sample(row) and IN_SAMPLE not in brackets
        in_sample = f", {IN_SAMPLE}" if is_to_say else ""
        return f"{sae['kind']} SAE x{sae['expansion']}{brackets}, {_activations(row)}{in_sample}"

    parts = ("sae", "activations", "scoring")
    return _titles(session, analysis_ids, parts, title, group=lambda row: str(row["sae"]["kind"]))


def activation_titles(session: Session, analysis_ids: Collection[int]) -> dict[int, str]:
    """Titles of the analysed activations: `cls of dinov2-base, birds`, with the settings in which they differ.

    With `, in-sample` where the analysis has no part of the images that is scored alone, and with the half that is
    scored where the images are in two halves.
    """

    def title(row: _Settings, brackets: str) -> str:
        scored = IN_SAMPLE if is_in_sample(row) else row["half"]
        return f"{_activations(row)}{brackets}" + ("" if scored is None else f", {scored}")

    return _titles(session, analysis_ids, ("activations",), title)


def in_sample_analyses(session: Session, analysis_ids: Collection[int]) -> set[int]:
    """Those of the analyses whose images did everything: they trained the SAE, chose its latents and are scored."""
    return {number for number, row in analysis_settings(session, analysis_ids).items() if is_in_sample(row)}


def in_sample_title(session: Session, rows: Iterable[Mapping[str, Any]]) -> str | None:
    """The title of a table of rows with an `analysis_id`: that, or which of them, are in-sample; None if none is."""
    numbers = {row["analysis_id"] for row in rows if row.get("analysis_id") is not None}
    found = sorted(in_sample_analyses(session, numbers))
    if not found:
        return None
    if len(found) == len(numbers):
        return f"{IN_SAMPLE.capitalize()}: {IN_SAMPLE_MEANING}"
    of_some = f"analys{'is' if len(found) == 1 else 'es'} {', '.join(map(str, found))}"
    return f"{of_some.capitalize()}: {IN_SAMPLE}, {IN_SAMPLE_MEANING}; the others: held out"


def _titles(
    session: Session,
    analysis_ids: Collection[int],
    parts: Sequence[str],
    title: Callable[[_Settings, str], str],
    *,
    group: Callable[[_Settings], str] = lambda _: "",
) -> dict[int, str]:
    """Titles of analyses.

    Args:
        session: of the catalog.
        analysis_ids: the analyses.
        parts: whose settings count: `sae`, `activations`, `scoring`.
        title: the title of one analysis, given the brackets with the settings that are not the same in all; they are
            empty if there are none.
        group: settings are compared among the analyses of one group.
    """
    found = analysis_settings(session, analysis_ids)
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for number, row in found.items():
        further = {n: value for part in parts for n, value in row[part].items() if n not in _IN_EVERY_TITLE}
        groups.setdefault(group(row), {})[number] = further
    differences = {
        number: name for settings in groups.values() for number, name in setting_names(settings, separator=", ").items()
    }
    titles = {
        number: title(row, f" ({differences[number]})" if differences[number] else "") for number, row in found.items()
    }
    return told_apart(titles, {number: row["layer"] for number, row in found.items()})


def is_in_sample(row: Mapping[str, Any]) -> bool:
    """Whether the images of an analysis did everything, by its `analysis_settings`; see `in_sample_analyses`."""
    return bool(row["scoring"]["split"] == IN_SAMPLE)


def _activations(row: _Settings) -> str:
    activations = row["activations"]
    apart = "" if row["score_dataset"] is None else f", scored on {row['score_dataset']}"
    return f"{activations['tokens']} of {short_model_name(activations['model'])}, {activations['dataset']}{apart}"
