"""Tables for people, JSON for programs."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def console(*, err: bool = False) -> Console:
    """The console of standard output, or error; a pipe gets lines wide enough for any table."""
    out = Console(highlight=False, stderr=err)
    return out if out.is_terminal else Console(highlight=False, stderr=err, width=160)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table as CSV: null is an empty field, a list or an object is JSON."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_field(value) for value in row] for row in rows)
    click.echo(lines.getvalue(), nl=False)


def _field(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    return value.isoformat() if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def cell(value: Any, digits: int = 3) -> str:
    """A value as a table shows it; `digits` behind the point of a float."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], title: str | None = None, *, digits: int = 3
) -> Table:
    """A table of `rows`; `columns` maps a key to its heading."""
    result = Table(
        title=None if title is None else Text(title, style="italic"),
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    for key, heading in columns.items():
        numeric = any(isinstance(row.get(key), int | float) for row in rows)
        result.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(cell(row.get(key), digits)) for key in columns))
    return result


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, as_json: bool, empty: str) -> None:
    """Print a listing as a table or as JSON; `empty` is what a person is told when there is nothing."""
    if as_json:
        print_json([dict(row) for row in rows])
    elif not rows:
        click.echo(empty)
    else:
        console().print(table(rows, columns))
