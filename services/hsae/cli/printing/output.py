"""Tables for people, JSON for programs."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console

from hsae.cli.printing.table import Column, FittedTable

_PIPE_WIDTH = 1_000_000  # whatever reads a pipe gets every line whole


class _Console(Console):
    """A console that cuts nothing: the terminal wraps lines that are wider, and they stay whole when copied."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **{"crop": False, **options})


def console(*, err: bool = False) -> Console:
    """The console of standard output, or error.

    A table is as wide as the terminal; in a pipe, as wide as it needs to be.
    """
    out = _Console(highlight=False, stderr=err)
    return out if out.is_terminal else _Console(highlight=False, stderr=err, width=_PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table as CSV: null is an empty field, a list or an object is JSON."""
    click.echo(csv_text(names, rows), nl=False)


def csv_text(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """What `print_csv` prints."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_field(value) for value in row] for row in rows)
    return lines.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def cell(value: Any, digits: int = 3) -> str:
    """A value as a table prints it, with `digits` after the point of a float."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(value)


def exact_cell(value: Any) -> str:
    """A setting as it is given: a float with all its significant digits, because a learning rate may be 0.0003."""
    return f"{value:.6g}" if isinstance(value, float) else cell(value)


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    title: str | None = None,
    *,
    digits: int = 3,
    importance: Sequence[str] = (),
    prose: Collection[str] = (),
) -> FittedTable:
    """A table of `rows`; `columns` maps a key to its heading.

    No cell is broken. If the terminal is too narrow, columns are left out and a line names them: those in `importance`
    stay longest, in its order, then the others from the left. Cells of the columns in `prose` are sentences and may
    continue on another line, broken between words.
    """
    kinds = [
        Column(
            key,
            heading,
            is_right=any(isinstance(row.get(key), int | float) for row in rows),
            breaks="words" if key in prose else "never",
        )
        for key, heading in columns.items()
    ]
    cells = [[cell(row.get(key), digits) for key in columns] for row in rows]
    return FittedTable(kinds, cells, title, importance)


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    as_json: bool,
    empty: str,
    title: str | None = None,
    importance: Sequence[str] = (),
    prose: Collection[str] = (),
) -> None:
    """Print a listing as a table (see `table`) or as JSON; `empty` is the line for people if there are no rows."""
    if as_json:
        print_json([dict(row) for row in rows])
    elif not rows:
        click.echo(empty)
    else:
        console().print(table(rows, columns, title, importance=importance, prose=prose))
