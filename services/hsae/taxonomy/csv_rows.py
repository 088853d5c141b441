"""Reads the columns that a user's CSV must have, with errors that name the file and the line."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The values of the columns asked for, in that order, stripped and never blank; `line` counts from 1."""

    line: int
    values: tuple[str, ...]


def read_csv_rows(path: Path, columns: tuple[str, ...]) -> list[CsvRow]:
    """Every row of a UTF-8 CSV (byte order mark and CRLF allowed) whose header holds `columns`.

    Other columns are ignored, and so are rows whose every field is blank. `UserError`: the file cannot be
    read, is not UTF-8, lacks a column or names it twice, has no rows, has one with more or fewer fields than
    the header, or a blank value.
    """
    wanted = ",".join(columns)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text; save it as a UTF-8 CSV with the header {wanted}") from error

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[CsvRow] = []
    header: list[str] | None = None
    positions: list[int] = []
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue  # spreadsheets leave rows of commas behind
            if header is None:
                header = [field.strip() for field in fields]
                positions = _column_positions(path, header, columns)
                continue
            if len(fields) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(fields)} fields, and the header has {len(header)};"
                    ' put a value that holds a comma in "quotes"'
                )
            values = tuple(fields[position].strip() for position in positions)
            for column, value in zip(columns, values, strict=True):
                if not value:
                    raise UserError(
                        f"{path}, line {reader.line_num}: the {column} is blank; fill it in or delete the row"
                    )
            rows.append(CsvRow(reader.line_num, values))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    if header is None:
        raise UserError(f"{path}: is empty; it needs the header {wanted} and a row for each entry")
    if not rows:
        raise UserError(f"{path}: holds a header and no rows")
    return rows


def _column_positions(path: Path, header: list[str], columns: tuple[str, ...]) -> list[int]:
    names = [name.lower() for name in header]
    for column in columns:
        if names.count(column) != 1:
            problem = "has no" if column not in names else "has more than one"
            raise UserError(
                f"{path}: the header {problem} column {column!r} (found: {', '.join(header)}); "
                f"it needs {','.join(columns)}, separated by commas"
            )
    return [names.index(column) for column in columns]
