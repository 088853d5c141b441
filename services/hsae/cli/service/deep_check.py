"""The part of `doctor --deep`: it reads every object that the catalog's rows name."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hsae.catalog import transaction
from hsae.cli.framework.connections import Connections
from hsae.pipeline.queue.jobs import notifications_for
from hsae.pipeline.upkeep.damage import make_again
from hsae.pipeline.upkeep.integrity import Lost, find_lost, named_objects, still_named

_WHO = "hsae-admin doctor"


def lost_objects(connections: Connections, *, quiet: bool) -> tuple[int, list[Lost]]:
    """Number of objects that were read, and those that are missing or damaged.

    Raises:
        ServiceError: the database or the object store cannot be reached.
    """
    with transaction(connections.sessions) as session:
        objects = named_objects(session)
    with _progress(len(objects), quiet=quiet) as on_checked:
        lost = find_lost(connections.store, objects, on_checked=on_checked)
    if lost:
        with transaction(connections.sessions) as session:
            lost = still_named(session, lost)
    return len(objects), lost


def remedy(lost: Lost, again: Collection[int]) -> str:
    """How a lost object is made again; the jobs of `again` were just queued for that."""
    named = lost.object
    if named.is_checkpoint:
        return f"nothing to do: job {named.job_id} goes on from the start"
    if named.job_id is None:
        return "run `hsae-admin dataset add` again as before, which stores it anew"
    if named.job_id in again:
        return f"job {named.job_id} makes it again now"
    return f"run `hsae-admin doctor --deep --repair`, and job {named.job_id} makes it again"


def repair(connections: Connections, lost: Sequence[Lost]) -> list[int]:
    """Queue the jobs that make the lost objects again; returns their ids."""
    faults = {
        each.object.key: f"object {each.object.key}: {each.fault}" for each in lost if not each.object.is_checkpoint
    }
    notifier = connections.notifier
    with transaction(connections.sessions) as session:
        again = make_again(session, faults, _WHO)
        notifications = notifications_for(session, again)
    notifier.notify(notifications)
    return again


def as_rows(lost: Sequence[Lost], again: Collection[int]) -> list[dict[str, Any]]:
    """The lost objects for programs."""
    return [
        {
            "object": each.object.key,
            "fault": each.fault,
            "of": each.object.what,
            "job": each.object.job_id,
            "remedy": remedy(each, again),
        }
        for each in lost
    ]


def print_lost(lost: Sequence[Lost], again: Collection[int]) -> None:
    """Print the lost objects for people, three lines each: names are long and must not be broken."""
    for each in lost:
        whose = each.object.what if each.object.job_id is None else f"{each.object.what} (job {each.object.job_id})"
        fault = each.fault if each.fault == "missing" else f"damaged: {each.fault}"
        click.echo(f"     {each.object.key}\n         {fault}; part of {whose}\n         {remedy(each, again)}")


@contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[], None]]:
    """A bar on standard error if that is a terminal, otherwise nothing."""
    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("reading objects"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
