"""The one analysis of a study that is meant, by layer, kind of SAE and further settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hsae.catalog.queries.analyses import analyses_of_study
from hsae.catalog.queries.analysis_settings import analysis_settings
from hsae.errors import UserError
from hsae.pipeline.exports.analysis_names import analysis_names

_N_NAMED = 8
Row = dict[str, Any]


def choose_analysis(session: Session, study_id: int, wanted: Mapping[str, Any]) -> int:
    """The number of the analysis that fits.

    Args:
        session: of the catalog.
        study_id: the study.
        wanted: values of `layer`, of `kind` of the SAE and of further settings; None allows all.

    Raises:
        UserError: none fits (the message lists what there is), or several do (it names the ways to choose).
    """
    rows = analyses_of_study(session, study_id)
    if not rows:
        raise UserError(f"study {study_id} has no analysis yet: wait for its jobs (`hsae-admin jobs watch {study_id}`)")
    numbers = [row["analysis_id"] for row in rows]
    found = analysis_settings(session, numbers)
    settings = {number: {"number": number} | _flat(one) for number, one in found.items()}
    left = numbers
    for name, value in wanted.items():
        if value is None:
            continue
        there = list({str(settings[number][name]): None for number in left if name in settings[number]})
        left = [number for number in left if name in settings[number] and settings[number][name] == value]
        if not left:
            raise UserError(_none_fits(study_id, name, value, there, settings[numbers[0]]))
    if len(left) > 1:
        raise UserError(_several_fit(session, study_id, left, settings))
    return int(left[0])


def _flat(settings: Row) -> Row:
    """The settings of an analysis by name; what a reader could take for the SAE's has the name of its part."""
    return {"layer": settings["layer"], **settings["scoring"], **settings["activations"], **settings["sae"]}


def _none_fits(study_id: int, name: str, value: object, there: Sequence[str], known: Row) -> str:
    what = _argument(name)
    if not there:
        return f"no analysis of study {study_id} has a setting {what}: choose from {', '.join(map(_argument, known))}"
    listed = ", ".join(there[:_N_NAMED]) + (" ..." if len(there) > _N_NAMED else "")
    return f"no analysis of study {study_id} has {what} {value}: there is {what} {listed}"


def _several_fit(session: Session, study_id: int, left: Sequence[int], settings: Mapping[int, Row]) -> str:
    ways = []
    for name in settings[left[0]]:
        if any(name not in settings[number] for number in left):
            continue  # a setting of some kinds of SAE alone
        values = list({str(settings[number][name]): None for number in left})
        if len(values) > 1 and name != "number" and name.isidentifier():
            ways.append(f"{_argument(name)}= ({', '.join(values)})")
    names = analysis_names(session, left)
    shown = ", ".join(f"{number} ({names[number]}, layer {settings[number]['layer']})" for number in left[:_N_NAMED])
    more = f" and {len(left) - _N_NAMED} more" if len(left) > _N_NAMED else ""
    chosen = f"choose by {' or '.join(ways)}, or " if ways else ""
    return f"{len(left)} analyses of study {study_id} fit: {shown}{more}; {chosen}take one by its number (number=)"


def _argument(name: str) -> str:
    return "sae" if name == "kind" else name
