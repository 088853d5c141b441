"""A CSV of paths and labels as an image source."""

import os
import stat
from functools import cached_property
from pathlib import Path, PurePosixPath

from hsae.datasets.sources.local_files import LocalFiles
from hsae.datasets.sources.mistakes import Mistakes
from hsae.datasets.sources.similar_names import similar_name_hint
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError
from hsae.taxonomy.csv_rows import CsvRow, read_csv_rows

CSV_SUFFIX = ".csv"
_COLUMNS = ("path", "label")
_OPTIONAL = ("group",)


class CsvSource(LocalFiles):
    """A CSV with the columns path,label and perhaps group, with a row for every label of an image.

    Paths are relative to the CSV's folder, or absolute. All rows of an image have the same group; an image whose group
    is blank has none.
    """

    def __init__(self, path: Path) -> None:
        """Make the source of an absolute path."""
        super().__init__(path, path.parent)

    def labels(self) -> dict[str, str]:
        """See `ImageSource`."""
        where: dict[str, str] = {}
        for row in self._rows:
            label = row.values[1]
            if label not in where:
                where[label] = f"{self.path}, line {row.line}: label {label!r}"
        return where

    def list(self) -> Contents:
        """See `ImageSource`. A listed file is used whatever its suffix; of all rows every mistake is said.

        A repeated row counts once: lists of objects have a row for every dog of an image.
        """
        listed = _Listed(self.folder)
        mistakes = Mistakes()
        for row in self._rows:
            with mistakes.kept():
                listed.add(row, f"{self.path}, line {row.line}")
        mistakes.raise_all()
        return Contents(listed.images())

    @cached_property
    def _rows(self) -> tuple[CsvRow, ...]:
        """The rows, read once, so that all methods agree."""
        return tuple(read_csv_rows(self.path, _COLUMNS, optional=_OPTIONAL))


class _Listed:
    """The images of the rows so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels_of: dict[str, tuple[str, ...]] = {}
        self._group_of: dict[str, str] = {}
        self._first_row: dict[str, tuple[int, str]] = {}

    def add(self, row: CsvRow, where: str) -> None:
        """Add a row.

        Raises:
            UserError: there is no such file, or the row contradicts another one.
        """
        path, label = PurePosixPath(_listed_name(self._folder, row)).as_posix(), row.values[1]
        file = os.path.normpath(self._folder / path)
        line, name = self._first_row.setdefault(file, (row.line, path))
        if line == row.line:
            _check_regular_file(self._folder / path, where)
        elif path != name:
            raise UserError(
                f"{where}: {path} is listed again, after line {line}, where it is called {name}; "
                "write the path of an image the same way in all its rows"
            )
        if label not in self._labels_of.get(path, ()):
            self._labels_of[path] = (*self._labels_of.get(path, ()), label)
        group = self._group_of.setdefault(path, _group(row, where))
        if group != row.values[2]:
            raise UserError(
                f"{where}: {path} is of the group {row.values[2]!r}, and in line {line} of {group!r}; give all rows"
                " of an image the same group"
            )

    def images(self) -> list[SourceImage]:
        """The images, each with all of its labels."""
        return [SourceImage(path, labels, self._group_of[path] or None) for path, labels in self._labels_of.items()]


def _listed_name(root: Path, row: CsvRow) -> str:
    """The path of a row: with the spaces around it if there is such a file, otherwise without them."""
    written = row.written[0]
    return written if written != row.values[0] and os.path.lexists(root / written) else row.values[0]


def _group(row: CsvRow, where: str) -> str:
    """The group of a row.

    Raises:
        UserError: it could not be printed in one line.
    """
    group = row.values[2]
    if not group.isprintable():
        raise UserError(f"{where}: the group {group!r} holds characters that cannot be printed; rename it")
    return group


def _check_regular_file(path: Path, where: str) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        hint = "; separate folders with /" if "\\" in str(path) else similar_name_hint(path)
        raise UserError(f"{where}: there is no file {path}{hint}") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{where}: {str(path)!r} cannot be read ({error})") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{where}: {path} is no regular file")
