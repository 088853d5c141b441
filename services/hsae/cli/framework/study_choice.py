"""The study that a command is about: the named one, or the latest; then the command prints which one that is."""

from typing import Any, Literal

import click
from sqlalchemy.orm import Session

from hsae.catalog.queries.jobs import latest_job
from hsae.catalog.queries.scope import ALL, Having, Scope, require_study_or_latest
from hsae.errors import UserError


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


def scope_note(scope: Scope[Any]) -> str | None:
    """The note for a person which study was taken; None if one was named."""
    if scope.latest is None:
        return None
    newer = "" if scope.newer is None else f" with {scope.kept} that fit; study {scope.newer['id']} has none"
    return f"Study {scope.latest['id']} ({scope.latest['name']}), the latest{newer}. Others: --study N, or --study all."


def study_or_latest(session: Session, study: int | None, *, having: Having = None) -> tuple[int, str | None]:
    """The study (default: the latest that has what is wanted), and the note for a person if none was named.

    Raises:
        UserError: there is no such study, none at all, or none has scores.
    """
    number, latest, newer = require_study_or_latest(session, study, having=having)
    if latest is None:
        return number, None
    fits = "" if having is None or newer is None else f" with {having}; study {newer['id']} has none"
    return number, f"Study {number} ({latest['name']}), the latest{fits}."


def job_or_latest(session: Session, job: int | None) -> tuple[int, str | None]:
    """The job (default: the one that was started last), and the note for a person if none was named.

    Raises:
        UserError: there is no job.
    """
    if job is not None:
        return job, None
    found = latest_job(session)
    if found is None:
        raise UserError("there is no job yet: `hsae-admin submit --layer 8` makes some")
    return found["id"], f"Job {found['id']} ({found['title']}), the latest that was started."


def say(note: str | None, *, quiet: bool) -> None:
    """Print which study or job was taken, unless a program reads the output."""
    if note is not None and not quiet:
        click.echo(note, err=True)
