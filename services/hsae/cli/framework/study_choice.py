"""Which study a command is about: the one that is named, else the latest, and then it says which that is."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import click
from sqlalchemy.orm import Session

from hsae.catalog.queries.jobs import latest_job
from hsae.catalog.queries.known_names import study_analyses
from hsae.catalog.queries.score_filter import AnalysisFilter
from hsae.catalog.queries.studies import latest_compared_study, latest_scored_study, latest_study, require_study
from hsae.errors import UserError

ALL = "all"
Filter = TypeVar("Filter", bound=AnalysisFilter)


class StudyChoice(click.ParamType[Any]):
    """A study's number, or `all`."""

    name = "study"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["all"]:
        """The number, or `all`."""
        if value == ALL:
            return "all"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is no study's number: see `hsae-admin studies list`, or write all", param, ctx)


def choose_scope(
    session: Session, study: int | str | None, wanted: Filter, *, nodes: Sequence[int] | None = None
) -> tuple[Filter, str | None]:
    """The filter within a study: the one named, all, or the latest that has an analysis which fits.

    Args:
        session: A database session.
        study: Number of a study, `all`, or None for the latest that fits. A filter that names analyses needs none.
        wanted: The filter.
        nodes: Ids of synsets, of which the latest study's data set must have one; None asks nothing.

    Returns:
        The filter of the study's analyses alone, and what a person is told of the study that was taken.

    Raises:
        UserError: when there is no such study.
    """
    if isinstance(study, int):
        return wanted.within(study_analyses(session, study)), None
    if study == ALL or wanted.analysis_ids is not None:
        return wanted, None
    chosen = latest_scored_study(session, wanted, nodes=nodes)
    if chosen is None:
        return wanted, None
    latest = latest_study(session)
    newer = (
        ""
        if latest is None or latest["id"] == chosen["id"]
        else f" with scores that fit; study {latest['id']} has none"
    )
    return (
        wanted.within(study_analyses(session, chosen["id"])),
        f"Study {chosen['id']} ({chosen['name']}), the latest{newer}. Others: --study N, or --study all.",
    )


def study_or_latest(session: Session, study: int | None, *, compared: bool = False) -> tuple[int, str | None]:
    """The study, by default the latest (with a comparison), and what a person is told where none was named.

    Raises:
        UserError: when there is no such study, or none at all.
    """
    if study is not None:
        require_study(session, study)
        return study, None
    found = latest_compared_study(session) if compared else latest_study(session)
    if found is None:
        raise UserError("there is no study yet: `hsae-admin submit --layer 8` makes one")
    return found["id"], f"Study {found['id']} ({found['name']}), the latest{' with a comparison' if compared else ''}."


def job_or_latest(session: Session, job: int | None) -> tuple[int, str | None]:
    """The job, by default the one that was started last, and what a person is told where none was named.

    Raises:
        UserError: when there is none at all.
    """
    if job is not None:
        return job, None
    found = latest_job(session)
    if found is None:
        raise UserError("there is no job yet: `hsae-admin submit --layer 8` makes some")
    return found["id"], f"Job {found['id']} ({found['title']}), the latest that was started."


def say(note: str | None, *, quiet: bool) -> None:
    """Tell a person which study or job was taken; programs, which read JSON, named theirs."""
    if note is not None and not quiet:
        click.echo(note, err=True)
