"""hsae-admin gc: delete objects that no row of the catalog refers to."""

import sys
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import click
from rich.filesize import decimal

from hsae.cli.framework.connections import Connections, pass_connections
from hsae.cli.framework.json_option import json_option
from hsae.cli.printing.output import console, print_json, table
from hsae.errors import UserError
from hsae.pipeline.upkeep.garbage import Garbage, collect, find_garbage

_MAX_AGE_SECONDS = 10 * 365 * 86400


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--min-age",
    type=click.IntRange(0, _MAX_AGE_SECONDS),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Spare objects younger than this of which no row knows the folder.",
)
@click.option(
    "--partial",
    is_flag=True,
    help="Also delete what failed and cancelled jobs keep for another attempt, which then begins anew.",
)
@json_option
@pass_connections
def gc(connections: Connections, dry_run: bool, yes: bool, min_age: int, partial: bool, as_json: bool) -> None:
    """Delete objects of the bucket that no row of the catalog refers to.

    Jobs that wait, are queued or run lose nothing, nor do folders that are not hsae's. Run it with --dry-run first.
    """
    if not (dry_run or yes or sys.stdin.isatty()):
        raise UserError("gc asks before it deletes, and there is no terminal to answer: add --yes, or --dry-run")
    age = timedelta(seconds=min_age)
    garbage = list(find_garbage(connections.sessions, connections.store, min_age=age, partial=partial))
    if dry_run or (garbage and not yes):
        _print(garbage, as_json=as_json and dry_run, dry_run=True, err=as_json)
    if dry_run:
        return
    if garbage and not yes and not click.confirm("Delete them?", err=True):
        click.echo("Nothing was deleted.", err=True)
        raise SystemExit(1)
    deleted = collect(connections.sessions, connections.store, garbage, min_age=age, partial=partial)
    _print(deleted, as_json=as_json, dry_run=False)


def _print(garbage: Iterable[Garbage], *, as_json: bool, dry_run: bool, err: bool = False) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for found in garbage:
        row = rows.setdefault(found.kind, {"kind": found.kind, "n_objects": 0, "n_bytes": 0})
        row["n_objects"] += len(found.objects)
        row["n_bytes"] += found.n_bytes
    listed = [row for row in rows.values() if row["n_objects"]]
    n_objects, n_bytes = (sum(row[name] for row in listed) for name in ("n_objects", "n_bytes"))
    if as_json:
        print_json({"dry_run": dry_run, "n_objects": n_objects, "n_bytes": n_bytes, "kinds": listed})
        return
    if listed:
        shown = [row | {"size": decimal(row["n_bytes"])} for row in listed]
        console(err=err).print(table(shown, {"kind": "folder", "n_objects": "objects", "size": "size"}))
    what = "would be deleted" if dry_run else "deleted"
    objects = f"{n_objects} {'object' if n_objects == 1 else 'objects'} ({decimal(n_bytes)})"
    click.echo(f"{objects} {what}." if n_objects else "Nothing to delete.", err=err)
