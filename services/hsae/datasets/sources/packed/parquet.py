"""Parquet files with images as bytes, such as those of the Hugging Face Hub, as an image source."""

import bisect
import errno
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hsae.datasets.sources.packed.class_names import class_names_of, name_of_class
from hsae.datasets.sources.packed.packed_files import PackedFiles
from hsae.datasets.sources.registry import register_source
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError

PARQUET_SUFFIX = ".parquet"
_LABEL_NAMES = ("label", "labels", "class", "wnid", "synset", "category", "fine_label")
_OPEN_FILES = 4
_ROW_DIGITS = 9


@register_source("parquet")
class ParquetSource(PackedFiles):
    """Files whose rows have an image and a label: `parquet:///data/train-*.parquet`, or a path that ends in .parquet.

    The image is a column of bytes, or of `{bytes, path}` as Hugging Face's `datasets` writes it. The label is a text, a
    number with names (in the file's metadata by `datasets`, or in a text file), or a list of these. Settings:
    `image`, `label` and `group` name the columns, `classes` a file of class names.
    """

    suffix = PARQUET_SUFFIX
    settings_known = ("image", "label", "group", "classes")

    def __init__(self, location: str) -> None:
        """See `PackedFiles`."""
        super().__init__(location)
        self._of_thread = threading.local()

    def list(self) -> Contents:
        """See `ImageSource`."""
        images: list[SourceImage] = []
        columns = [self._columns["label"], *filter(None, [self._columns.get("group")])]
        for name, path in self.files.items():
            table = _read(path, lambda file: file.read(columns=columns))
            labels = table[columns[0]].to_pylist()
            groups = table[columns[1]].to_pylist() if len(columns) > 1 else itertools.repeat(None)
            for row, (label, group) in enumerate(zip(labels, groups, strict=False)):
                where = f"{path}, row {row}"
                named = tuple(dict.fromkeys(self._named(label, where)))
                images.append(SourceImage(f"{name}/{row:0{_ROW_DIGITS}}", named, None if group is None else str(group)))
        return Contents(images)

    def read(self, path: str) -> bytes:
        """See `ImageSource`. The row group of the last image of a file stays in memory, once for each thread."""
        file, place = self.file_and_place(path)
        if not place.isdecimal():
            raise FileNotFoundError(errno.ENOENT, f"{place!r} is no number of a row")
        cell = self._rows_of(file).cell(int(place))
        content = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if not content:
            named = cell.get("path") if isinstance(cell, Mapping) else None
            raise OSError(errno.ENODATA, f"the row has no bytes{f', only the path {named}' if named else ''}")
        return bytes(content)

    def _rows_of(self, file: Path) -> "_Rows":
        """The file's reader of this thread."""
        opened: OrderedDict[Path, _Rows] | None = getattr(self._of_thread, "opened", None)
        if opened is None:
            opened = self._of_thread.opened = OrderedDict()
        if file not in opened:
            opened[file] = _Rows(file, self._image_column(file))
            if len(opened) > _OPEN_FILES:
                opened.popitem(last=False)
        opened.move_to_end(file)
        return opened[file]

    def _image_column(self, file: Path) -> str:
        """Without a look at the other files: a worker's source reads what it needs alone."""
        try:
            return _image_column(pq.read_schema(file), self.settings.get("image"), file)
        except (pa.ArrowException, UserError) as error:
            raise OSError(errno.EIO, str(error)) from error

    @cached_property
    def _columns(self) -> dict[str, str]:
        """The columns of image, label and perhaps group; all files must have them.

        Raises:
            UserError: they cannot be told, or a file lacks one.
        """
        found: dict[str, str] = {}
        for path in self.files.values():
            schema = _read(path, lambda file: file.schema_arrow)
            if not found:
                found = {
                    "image": _image_column(schema, self.settings.get("image"), path),
                    "label": _label_column(schema, self.settings.get("label"), path),
                } | ({"group": self.settings["group"]} if "group" in self.settings else {})
            lacking = sorted(set(found.values()) - set(schema.names))
            if lacking:
                raise UserError(f"{path}: has no column {', '.join(lacking)}; it has {', '.join(schema.names)}")
        return found

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        given = self.settings.get("classes")
        if given is None:
            first = next(iter(self.files.values()))
            names = _names_in(_read(first, lambda file: file.schema_arrow), self._columns["label"])
            if names is not None:
                return names
        return class_names_of(given, self.folder)

    def _named(self, label: Any, where: str) -> Iterator[str]:
        """The texts of a label: one, or several of an image of several classes."""
        labels = label if isinstance(label, list) else [label]
        if not labels or any(one is None for one in labels):
            raise UserError(f"{where}: column {self._columns['label']} has no label; leave the row out or label it")
        for one in labels:
            if isinstance(one, bool) or not isinstance(one, int | str):
                raise UserError(f"{where}: the label {one!r} is neither text nor a whole number")
            yield name_of_class(one, self._names, where) if isinstance(one, int) else one.strip()


class _Rows:
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


def _read(path: Path, what: Any) -> Any:
    """What a function makes of the opened file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            return what(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is no readable Parquet file ({error}); copy it again") from error


def _image_column(schema: pa.Schema, given: str | None, path: Path) -> str:
    if given is not None:
        return given
    found = [field.name for field in schema if _holds_bytes(field.type)]
    if len(found) != 1:
        many = f"several columns of bytes ({', '.join(found)})" if found else "no column of bytes"
        raise UserError(
            f"{path}: has {many} among {', '.join(schema.names)}; name the images' column: parquet://{path}?image=NAME"
        )
    return str(found[0])


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: pa.Schema, given: str | None, path: Path) -> str:
    if given is not None:
        return given
    found = [name for name in _LABEL_NAMES if name in schema.names]
    if len(found) != 1:
        many = f"the columns {' and '.join(found)}" if found else f"no column {', '.join(_LABEL_NAMES)}"
        raise UserError(
            f"{path}: has {many} (all: {', '.join(schema.names)}); name the labels' column: parquet://{path}?label=NAME"
        )
    return found[0]


def _names_in(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """The class names that `datasets` writes into the metadata."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        feature = feature.get("feature", feature)
        return tuple(map(str, feature["names"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
