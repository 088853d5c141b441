"""Images in the rows of tables: what Parquet and Arrow files share."""

import errno
import itertools
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from hsae.datasets.sources.mistakes import Mistakes
from hsae.datasets.sources.packed.class_names import LabelKinds, class_names_of, text_of_group, text_of_label
from hsae.datasets.sources.packed.packed_files import PackedFiles
from hsae.datasets.sources.packed.table_columns import class_names_in, columns_of, content_of, image_column
from hsae.datasets.sources.source import Contents, SourceImage
from hsae.errors import UserError

_OPEN_FILES = 4
_ROW_DIGITS = 9


class Rows(Protocol):
    """One column of an opened file."""

    def cell(self, row: int) -> Any:
        """The value in a row.

        Raises:
            FileNotFoundError: the file has fewer rows.
            OSError: the row cannot be read.
        """


class TableImages(PackedFiles):
    """Files whose rows have an image and a label; an image's path is `FILE/ROW`.

    The image is a column of bytes, or of `{bytes, path}` as Hugging Face's `datasets` writes it. The label is a text, a
    number with names (in the file's metadata by `datasets`, or in a text file), or a list of these. Settings:
    `image`, `label` and `group` name the columns, `classes` a file of class names.
    """

    settings_known: ClassVar[tuple[str, ...]] = ("image", "label", "group", "classes")
    scheme: str
    """Of the URIs that take settings."""

    def set_up(self, location: str, settings: Mapping[str, str]) -> None:
        """See `PackedFiles`."""
        super().set_up(location, settings)
        self._of_thread = threading.local()

    @abstractmethod
    def schema_of(self, path: Path) -> pa.Schema:
        """The schema of a file.

        Raises:
            UserError: the file cannot be read.
        """

    @abstractmethod
    def columns_in(self, path: Path, names: Sequence[str]) -> pa.Table:
        """Columns of a file, without its images.

        Raises:
            UserError: the file cannot be read.
        """

    @abstractmethod
    def rows_of(self, path: Path, column: str) -> Rows:
        """The images of a file, for one thread.

        Raises:
            OSError: the file cannot be read.
        """

    def class_names(self) -> tuple[str, ...] | None:
        """The names of numbered classes in a text file; None: there is none.

        Raises:
            UserError: it cannot be read.
        """
        return class_names_of(self.settings.get("classes"), self.folder)

    def n_without_bytes(self, path: Path, column: str) -> int:
        """How many images of a file are not in it, where that is told without reading them; otherwise 0."""
        return 0

    @property
    def settings_hint(self) -> str:
        """What a message puts before a setting."""
        return f"{self.scheme}://{self.pattern}?"

    def list(self) -> Contents:
        """See `ImageSource`."""
        images: list[SourceImage] = []
        mistakes, kinds = Mistakes(), LabelKinds()
        columns = [self._columns["label"], *filter(None, [self._columns.get("group")])]
        for name, path in self.files.items():
            table = self.columns_in(path, columns)
            absent = self.n_without_bytes(path, self._columns["image"])
            if absent:
                mistakes.add(
                    f"{path}: has no bytes of {absent:,} of its {table.num_rows:,} images, only their paths or nothing;"
                    " give the image files themselves, or the folder that save_to_disk writes, which has the bytes"
                )
                continue
            labels = table[columns[0]].to_pylist()
            groups = table[columns[1]].to_pylist() if len(columns) > 1 else itertools.repeat(None)
            for row, (label, group) in enumerate(zip(labels, groups, strict=False)):
                with mistakes.kept():
                    named = tuple(dict.fromkeys(self._named(label, f"{path}, row {row}", kinds)))
                    place = f"{name}/{row:0{_ROW_DIGITS}}"
                    images.append(SourceImage(place, named, text_of_group(group, f"{path}, row {row}")))
        of_all = Mistakes()
        with of_all.kept():
            kinds.check(self.uri)
        of_all.extend(mistakes)
        of_all.raise_all()
        return Contents(images)

    def read(self, path: str) -> bytes:
        """See `ImageSource`."""
        file, place = self.file_and_place(path)
        if not place.isdecimal():
            raise FileNotFoundError(errno.ENOENT, f"{place!r} is no number of a row")
        content, named = content_of(self._opened(file).cell(int(place)))
        if not content:
            raise OSError(errno.ENODATA, f"the row has no bytes{f', only the path {named}' if named else ''}")
        return bytes(content)

    def _opened(self, file: Path) -> Rows:
        """The file's reader of this thread."""
        opened: OrderedDict[Path, Rows] | None = getattr(self._of_thread, "opened", None)
        if opened is None:
            opened = self._of_thread.opened = OrderedDict()
        if file not in opened:
            file.stat()  # a file that is gone is told from a damaged one
            # Without a look at the other files: a worker's source reads what it needs alone.
            try:
                column = image_column(self.schema_of(file), self.settings.get("image"), str(file), self.settings_hint)
            except UserError as error:
                raise OSError(errno.EIO, str(error)) from error
            opened[file] = self.rows_of(file, column)
            if len(opened) > _OPEN_FILES:
                opened.popitem(last=False)
        opened.move_to_end(file)
        return opened[file]

    @cached_property
    def _columns(self) -> dict[str, str]:
        """The columns of image, label and perhaps group; all files must have them.

        Raises:
            UserError: they cannot be told, or files lack them; all of these together.
        """
        mistakes = Mistakes()
        found: dict[str, str] = {}
        for path in self.files.values():
            with mistakes.kept():
                schema = self.schema_of(path)
                found = found or columns_of(schema, self.settings, str(path), self.settings_hint)
                columns_of(schema, found, str(path), self.settings_hint)
        mistakes.raise_all()
        return found

    @cached_property
    def _names(self) -> tuple[str, ...] | None:
        if "classes" not in self.settings:
            names = class_names_in(self.schema_of(next(iter(self.files.values()))), self._columns["label"])
            if names is not None:
                return names
        return self.class_names()

    def _named(self, label: Any, where: str, kinds: LabelKinds) -> Iterator[str]:
        """The texts of a label: one, or several of an image of several classes."""
        labels = label if isinstance(label, list) else [label]
        if not labels or any(one is None for one in labels):
            raise UserError(f"{where}: column {self._columns['label']} has no label; leave the row out or label it")
        for one in labels:
            names = self._names if isinstance(one, int) else None
            kinds.add(one, names, where)
            yield text_of_label(one, names, where)
