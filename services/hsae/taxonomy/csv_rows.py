"""Read a user's CSV; errors name the file and the line."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class CsvRow:
    """The values of one row, stripped (`values`) and as written (`written`); `line` counts from 1."""

    line: int
    values: tuple[str, ...]
    written: tuple[str, ...]


def read_csv_rows(path: Path, columns: tuple[str, ...], *, optional: tuple[str, ...] = ()) -> list[CsvRow]:
    """Read some columns of a CSV with a header.

    Args:
        path: the file.
        columns: names of the columns to read; other columns are ignored.
        optional: names of columns to read as well where the file has them.

    Returns:
        Every row, with the values in the order of `columns`, of which none is blank, then of `optional`, blank where
        there is none.

    Raises:
        UserError: as for `iterate_csv`; or a column is missing or occurs twice, there are no rows, or a value is blank.
    """
    wanted = ",".join(columns)
    table = iterate_csv(path, wanted)
    positions = _column_positions(path, next(table).values, columns, optional)
    rows = [
        CsvRow(
            row.line,
            *(
                tuple("" if position is None else fields[position] for position in positions)
                for fields in (row.values, row.written)
            ),
        )
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
    """Iterate over a UTF-8 CSV (byte order mark and CRLF allowed): first its header, then its rows.

    Rows with only blank fields are left out.

    Args:
        path: the file.
        wanted: the header that the file should have, for error messages.

    Raises:
        UserError: the file cannot be read, is not UTF-8, is empty, or has a row whose number of fields differs from the
            header's.
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
                count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
                raise UserError(
                    f"{path}, line {reader.line_num}: {count}, and the header has {n_columns};"
                    ' put a value that holds a comma in "quotes"'
                )
            n_columns = len(fields)
            yield CsvRow(reader.line_num, tuple(field.strip() for field in fields), tuple(fields))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    if not n_columns:
        raise UserError(f"{path}: is empty; it needs the header {wanted} and a row for each entry")


def _column_positions(
    path: Path, header: tuple[str, ...], columns: tuple[str, ...], optional: tuple[str, ...]
) -> list[int | None]:
    names = [name.lower() for name in header]
    for column in (*columns, *optional):
        if names.count(column) > 1 or (column in columns and column not in names):
            problem = "has no" if column not in names else "has more than one"
            raise UserError(
                f"{path}: the header {problem} column {column!r} (found: {', '.join(header)}); "
                f"it needs {','.join(columns)}, separated by commas"
            )
    return [names.index(column) if column in names else None for column in (*columns, *optional)]
