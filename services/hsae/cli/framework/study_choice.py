"""Which study a command is about: the one that is named, else the latest, and then it says which that is."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from hsae.errors import UserError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

ALL = "all"


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


class Scope(NamedTuple):
    """The analyses that are asked about (None: all), and what a person is told of it."""

    analysis_ids: list[int] | None
    note: str | None


def choose_scope(session: "Session", study: int | str | None, *, analysis_id: int | None = None, **fits: Any) -> Scope:
    """The analyses of a study: of the one named, of all, or of the latest that has an analysis which `fits`.

    Raises:
        UserError: when there is no such study.
    """
    from hsae.catalog.queries.known_names import study_analyses
    from hsae.catalog.queries.studies import latest_scored_study, latest_study

    if isinstance(study, int):
        return Scope(study_analyses(session, study), None)
    if study == ALL or analysis_id is not None:
        return Scope(None, None)
    chosen = latest_scored_study(session, **fits)
    if chosen is None:
        return Scope(None, None)
    latest = latest_study(session)
    newer = (
        ""
        if latest is None or latest["id"] == chosen["id"]
        else f" with scores that fit; study {latest['id']} has none"
    )
    return Scope(
        study_analyses(session, chosen["id"]),
        f"Study {chosen['id']} ({chosen['name']}), the latest{newer}. Others: --study N, or --study all.",
    )


def study_or_latest(session: "Session", study: int | None, *, compared: bool = False) -> tuple[int, str | None]:
    """The study, by default the latest (with a comparison), and what a person is told where none was named.

    Raises:
        UserError: when there is no such study, or none at all.
    """
    from hsae.catalog.queries.studies import latest_compared_study, latest_study, require_study

    if study is not None:
        require_study(session, study)
        return study, None
    found = latest_compared_study(session) if compared else latest_study(session)
    if found is None:
        raise UserError("there is no study yet: `hsae-admin submit --layer 8` makes one")
    return found["id"], f"Study {found['id']} ({found['name']}), the latest{' with a comparison' if compared else ''}."


def job_or_latest(session: "Session", job: int | None) -> tuple[int, str | None]:
    """The job, by default the one that was started last, and what a person is told where none was named.

    Raises:
        UserError: when there is none at all.
    """
    from hsae.catalog.queries.jobs import latest_job

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
