"""What the analyses in a listing are called: by the settings in which they differ."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


def name_saes(session: "Session", rows: Sequence[dict[str, Any]]) -> None:
    """Set in rows with an `analysis_id` what the analysis is called beside those of the other rows, as `sae`."""
    names = analysis_names(session, {row["analysis_id"] for row in rows if row.get("analysis_id") is not None})
    for row in rows:
        row["sae"] = names.get(row.get("analysis_id") or 0)


def analysis_names(session: "Session", analysis_ids: Collection[int]) -> dict[int, str]:
    """Names of analyses as short as they can be: the SAE's kind, then whatever is not the same in all of them."""
    from hsae.catalog.queries.analysis_settings import analysis_settings
    from hsae.report.setting_names import setting_names, told_apart

    found = analysis_settings(session, analysis_ids)
    whole = {number: row["sae"] | row["activations"] | row["scoring"] for number, row in found.items()}
    layers = {number: row["layer"] for number, row in found.items()}
    return told_apart(setting_names(whole, always=("kind",)), layers)


def analysis_titles(session: "Session", analysis_ids: Collection[int]) -> dict[int, str]:
    """Titles of analyses: `topk SAE x8 (k=16), cls of dinov2-base, birds`.

    In brackets stands what is not the same in all SAEs of a kind; two kinds are told apart by their names.
    """
    from hsae.backbones.names import short_model_name
    from hsae.catalog.queries.analysis_settings import analysis_settings
    from hsae.report.setting_names import setting_names, told_apart

    found = analysis_settings(session, analysis_ids)
    stands = {"kind", "expansion", "tokens", "model", "dataset"}
    further = {
        number: {
            name: value
            for part in ("sae", "activations", "scoring")
            for name, value in row[part].items()
            if name not in stands
        }
        for number, row in found.items()
    }
    of_kind: dict[str, dict[int, dict[str, Any]]] = {}
    for number, row in found.items():
        of_kind.setdefault(row["sae"]["kind"], {})[number] = further[number]
    differences = {
        number: name
        for settings in of_kind.values()
        for number, name in setting_names(settings, separator=", ").items()
    }
    titles = {}
    for number, row in found.items():
        sae, activations = row["sae"], row["activations"]
        brackets = f" ({differences[number]})" if differences[number] else ""
        model = short_model_name(activations["model"])
        titles[number] = (
            f"{sae['kind']} SAE x{sae['expansion']}{brackets}, {activations['tokens']} of {model},"
            f" {activations['dataset']}"
        )
    return told_apart(titles, {number: row["layer"] for number, row in found.items()})


def activation_titles(session: "Session", analysis_ids: Collection[int]) -> dict[int, str]:
    """Titles of the activations that were analysed: `cls of dinov2-base, birds`, with what is not the same in all."""
    from hsae.backbones.names import short_model_name
    from hsae.catalog.queries.analysis_settings import analysis_settings
    from hsae.report.setting_names import setting_names, told_apart

    found = analysis_settings(session, analysis_ids)
    stands = {"tokens", "model", "dataset"}
    differences = setting_names(
        {
            number: {name: value for name, value in row["activations"].items() if name not in stands}
            for number, row in found.items()
        },
        separator=", ",
    )
    titles = {}
    for number, row in found.items():
        activations = row["activations"]
        brackets = f" ({differences[number]})" if differences[number] else ""
        titles[number] = (
            f"{activations['tokens']} of {short_model_name(activations['model'])}, {activations['dataset']}{brackets}"
        )
    return told_apart(titles, {number: row["layer"] for number, row in found.items()})
