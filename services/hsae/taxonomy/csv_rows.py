"""Reads a user's CSV, with errors that name the file and the line."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The values of one row, stripped, and as they are written; `line` counts from 1."""

    line: int
    values: tuple[str, ...]
    written: tuple[str, ...]


def read_csv_rows(path: Path, columns: tuple[str, ...]) -> list[CsvRow]:
    """The values of `columns`, in that order and never blank, in every row of a CSV whose header holds them.

    Other columns are ignored. `UserError`: as for `iterate_csv`, or the file lacks a column or names it twice, has no
    rows, or has a blank value.
    """
    wanted = ",".join(columns)
    table = iterate_csv(path, wanted)
    positions = _column_positions(path, next(table).values, columns)
    rows = [
        CsvRow(row.line, *(tuple(fields[position] for position in positions) for fields in (row.values, row.written)))
        for row in table
    ]
    for position, column in enumerate(columns):
        blank = [str(row.line) for row in rows if not row.values[position]]
        if len(blank) == 1:
            raise UserError(f"{path}, line {blank[0]}: the {column} is blank; fill it in or delete the row")
        if blank:
            raise UserError(f"{path}, lines {', '.join(blank)}: the {column} is blank; fill it in or delete the rows")
    if not rows:
        raise UserError(f"{path}: holds a header and no rows")
    return rows


def iterate_csv(path: Path, wanted: str) -> Iterator[CsvRow]:
    """The header of a UTF-8 CSV (byte order mark and CRLF allowed), then all of its rows, as long as the header.

    Rows whose every field is blank are left out. `wanted` says in the error messages what the header should be.
    `UserError`: the file cannot be read, is not UTF-8, holds nothing, or has a row with more or fewer fields than the
    header.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; save it as a UTF-8 CSV with the header {wanted}") from error

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    n_columns = 0
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue  # spreadsheets leave rows of commas behind
            if n_columns and len(fields) != n_columns:
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, and the header has {n_columns};"
                    ' put a value that holds a comma in "quotes"'
                )
            n_columns = len(fields)
            yield CsvRow(reader.line_num, tuple(field.strip() for field in fields), tuple(fields))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    if not n_columns:
        raise UserError(f"{path}: is empty; it needs the header {wanted} and a row for each entry")


def _column_positions(path: Path, header: tuple[str, ...], columns: tuple[str, ...]) -> list[int]:
    names = [name.lower() for name in header]
    for column in columns:
        if names.count(column) != 1:
            problem = "has no" if column not in names else "has more than one"
            raise UserError(
                f"{path}: the header {problem} column {column!r} (found: {', '.join(header)}); "
                f"it needs {','.join(columns)}, separated by commas"
            )
    return [names.index(column) for column in columns]
