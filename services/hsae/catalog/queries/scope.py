"""The study that a question is about: the named one, all of them, or the latest that has an answer."""

from collections.abc import Sequence
from typing import Generic, Literal, NamedTuple, TypeVar

from sqlalchemy.orm import Session

from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.known_names import study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import (
    Kept,
    latest_compared_study,
    latest_scored_study,
    latest_study,
    require_study,
)
from hsae.errors import UserError

ALL = "all"
Filter = TypeVar("Filter", bound=AnalysisFilter)
Study = int | Literal["all"] | None
"""Number of a study, `all`, or None for the latest that fits."""


Having = Literal["scores", "a comparison"] | None
"""What the latest study that is meant has."""


class Scope(NamedTuple, Generic[Filter]):
    """A filter within a study.

    Attributes:
        wanted: the filter, restricted to the study's analyses.
        latest: number and name of the study, where it was taken because it is the latest that fits; else None.
        newer: number and name of a later study without an analysis that fits; None if there is none.
        kept: what the study was taken for.
    """

    wanted: Filter
    latest: Row | None = None
    newer: Row | None = None
    kept: Kept = "scores"


def choose_scope(
    session: Session,
    study: int | str | None,
    wanted: Filter,
    *,
    nodes: Sequence[int] | None = None,
    kept: Kept = "scores",
) -> Scope[Filter]:
    """The filter within a study: the named one, all, or the latest with an analysis that fits.

    Args:
        session: a database session.
        study: number of a study, `all`, or None for the latest that fits. A filter that names analyses needs none.
        wanted: the filter.
        nodes: ids of synsets, of which the latest study's data set must have one; None allows all.
        kept: what the latest study must have of an analysis that fits. Where none has it, the latest with scores is
            taken, of which one can say so.

    Raises:
        UserError: there is no such study.
    """
    if isinstance(study, int):
        return Scope(wanted.within(study_analyses(session, study)))
    if study == ALL or wanted.analysis_ids is not None:
        return Scope(wanted)
    chosen = latest_scored_study(session, wanted, nodes=nodes, kept=kept)
    if chosen is None and kept != "scores":
        return choose_scope(session, study, wanted, nodes=nodes)
    if chosen is None:
        return Scope(wanted)
    newer = latest_study(session)
    is_newer = newer is not None and newer["id"] != chosen["id"]
    return Scope(wanted.within(study_analyses(session, chosen["id"])), chosen, newer if is_newer else None, kept)


class ChosenStudy(NamedTuple):
    """A study that a question is about.

    Attributes:
        number: of the study.
        latest: its number and name, where it was taken because it is the latest that fits; else None.
        newer: number and name of a later study that does not fit; None if there is none.
    """

    number: int
    latest: Row | None = None
    newer: Row | None = None


def require_study_or_latest(session: Session, study: int | None, *, having: Having = None) -> ChosenStudy:
    """The named study, or else the latest one that has what is wanted.

    Args:
        session: a database session.
        study: its number; None for the latest.
        having: what the latest one must have; None: nothing. Where no study has a comparison, the latest is taken, of
            which one can say why it has none.

    Raises:
        UserError: there is no such study, none at all, or none has scores.
    """
    if study is not None:
        require_study(session, study)
        return ChosenStudy(study)
    newest = latest_study(session)
    if newest is None:
        raise UserError("there is no study yet: `hsae-admin submit --layer 8` makes one")
    found: Row | None = newest
    if having == "scores":
        found = latest_scored_study(session, AnalysisFilter())
    elif having == "a comparison":
        found = latest_compared_study(session)
    if found is None:
        raise UserError(f"no study has scores yet: see `hsae-admin studies show {newest['id']}`")
    return ChosenStudy(found["id"], found, newest if newest["id"] != found["id"] else None)
