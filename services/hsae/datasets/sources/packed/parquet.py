"""Parquet files with images as bytes, such as those of the Hugging Face Hub, as an image source."""

import bisect
import errno
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from hsae.datasets.sources.packed.table_images import Rows, TableImages
from hsae.datasets.sources.registry import register_source
from hsae.errors import UserError

PARQUET_SUFFIX = ".parquet"
T = TypeVar("T")


@register_source("parquet")
class ParquetSource(TableImages):
    """Parquet: `parquet:///data/train-*.parquet`, or a path that ends in .parquet; see `TableImages`.

    The row group of the last image of a file stays in memory, once for each thread.
    """

    suffix = PARQUET_SUFFIX
    scheme = "parquet"

    def schema_of(self, path: Path) -> pa.Schema:
        """See `TableImages`."""
        return _read(path, lambda file: file.schema_arrow)

    def columns_in(self, path: Path, names: Sequence[str]) -> pa.Table:
        """See `TableImages`."""
        return _read(path, lambda file: file.read(columns=list(names)))

    def rows_of(self, path: Path, column: str) -> Rows:
        """See `TableImages`."""
        return _RowGroups(path, column)


class _RowGroups:
    """The images of one file, a row group at a time."""

    def __init__(self, path: Path, column: str) -> None:
        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowException as error:
            raise OSError(errno.EIO, f"no readable Parquet file ({error})") from error
        self._column = column
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.num_row_groups)]
        self._starts = [0, *itertools.accumulate(sizes)]
        self._group = -1
        self._cells: pa.ChunkedArray | None = None

    def cell(self, row: int) -> Any:
        if row >= self._starts[-1]:
            raise FileNotFoundError(errno.ENOENT, f"the file has {self._starts[-1]} rows")
        group = bisect.bisect_right(self._starts, row) - 1
        if self._cells is None or group != self._group:
            self._cells = None  # before the next is read, so that memory holds one
            try:
                self._cells = self._file.read_row_group(group, columns=[self._column])[self._column]
            except (pa.ArrowException, OSError) as error:
                raise OSError(errno.EIO, f"row group {group} cannot be read ({error})") from error
            self._group = group
        return self._cells[row - self._starts[group]].as_py()


def _read(path: Path, what: Callable[[pq.ParquetFile], T]) -> T:
    """What a function makes of the opened file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            return what(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is no readable Parquet file ({error}); copy it again") from error
