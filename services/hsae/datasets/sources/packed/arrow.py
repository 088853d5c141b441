"""Arrow files, as Hugging Face's `datasets` writes them on a disk and into its cache, as an image source."""

import bisect
import errno
import itertools
import json
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hsae.datasets.sources.packed.table_images import Rows, TableImages
from hsae.datasets.sources.registry import register_source
from hsae.errors import UserError

ARROW_SUFFIX = ".arrow"
_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_SCRATCH = ("cache-", "tmp")
"""How names of files begin in which `datasets` keeps results of `map` and unfinished ones."""
_END = b"\xff\xff\xff\xff\0\0\0\0"
"""Ends a stream; one that was cut short between two of its batches lacks it alone."""
_MAGIC = b"ARROW1"


@register_source("arrow")
class ArrowSource(TableImages):
    """A folder that `save_to_disk` wrote, one of the cache of `datasets`, or files: `arrow:///data/pets?split=train`.

    See `TableImages`. Where the folder holds several splits, the setting `split` chooses one. Files are mapped into
    memory, not read into it.
    """

    suffix = ARROW_SUFFIX
    scheme = "arrow"
    settings_known = (*TableImages.settings_known, "split")

    @cached_property
    def folder(self) -> Path:
        """The folder of the data set, or of its split."""
        if not (self.pattern / _DICT).is_file():
            return super().folder
        splits = self._splits_in(self.pattern / _DICT)
        return self.pattern / (self.settings.get("split") or splits[0])

    @cached_property
    def files(self) -> dict[str, Path]:
        """See `PackedFiles`. Those of a folder that `save_to_disk` wrote are the ones that it lists.

        Raises:
            UserError: also where several splits are there and none was chosen.
        """
        if not self.pattern.is_dir():
            return super().files
        if (self.folder / _STATE).is_file():
            return self._listed()
        return self._cached()

    def schema_of(self, path: Path) -> pa.Schema:
        """See `TableImages`."""
        return _opened(path).schema

    def columns_in(self, path: Path, names: Sequence[str]) -> pa.Table:
        """See `TableImages`."""
        return _opened(path).select(list(names))

    def n_without_bytes(self, path: Path, column: str) -> int:
        """See `TableImages`."""
        cells = _opened(path)[column]
        if pa.types.is_struct(cells.type):
            cells = pc.struct_field(cells, "bytes")
        return int(cells.null_count)

    def rows_of(self, path: Path, column: str) -> Rows:
        """See `TableImages`."""
        try:
            return _Batches(_opened(path)[column])
        except UserError as error:
            raise OSError(errno.EIO, str(error)) from error

    def _splits_in(self, description: Path) -> list[str]:
        """The splits that a file describes, one of which was chosen or is the only one.

        Raises:
            UserError: there are several and none was chosen, or the chosen one is not there.
        """
        splits = sorted(map(str, _described(description).get("splits") or ()))
        split = self.settings.get("split")
        names = ", ".join(splits)
        if split is None and len(splits) > 1:
            raise UserError(f"{self.uri}: holds the splits {names}; name one: {self.settings_hint}split={splits[0]}")
        if (splits or description.name == _DICT) and split not in {None, *splits}:
            raise UserError(f"{self.uri}: has no split {split}; it has {names or 'none'}")
        if not splits and description.name == _DICT:
            raise UserError(f"{description}: names no splits; save the data set again with save_to_disk")
        return splits

    def _listed(self) -> dict[str, Path]:
        """The files that `state.json` names."""
        where = self.folder / _STATE
        state = _described(where)
        try:
            names = [str(file["filename"]) for file in state["_data_files"]]
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: names no _data_files; save the data set again with save_to_disk") from error
        if state.get("_indices_data_files") or state.get("_indices_files"):
            raise UserError(f"{where}: the data set is a selection of its rows; save it again after flatten_indices()")
        odd = [name for name in names if name != Path(name).name]
        if odd:
            raise UserError(f"{where}: names files outside of its folder ({', '.join(odd[:5])}); save it again")
        missing = [name for name in names if not (self.folder / name).is_file()]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise UserError(f"{self.folder}: lacks {', '.join(missing[:5])}{more}, which {_STATE} names; copy it again")
        return {name: self.folder / name for name in sorted(names)}

    def _cached(self) -> dict[str, Path]:
        """The files of a folder of the cache, or of one that holds files alone."""
        found = sorted(path for path in self.folder.glob(f"[!.]*{ARROW_SUFFIX}") if not path.name.startswith(_SCRATCH))
        if not found:
            below = next(iter(sorted(self.folder.glob(f"*/*/*/*{ARROW_SUFFIX}"))), None)
            hint = f"; give the folder of one version, such as {below.parent}" if below else ""
            raise UserError(f"{self.uri}: no {ARROW_SUFFIX} file is there{hint}")
        info = self.folder / _INFO
        if info.is_file():
            self._splits_in(info)
        split = self.settings.get("split")
        if split is not None:
            of_split = re.compile(rf"(.*-)?{re.escape(split)}(-\d+-of-\d+)?{re.escape(ARROW_SUFFIX)}")
            found = [path for path in found if of_split.fullmatch(path.name)]
            if not found:
                raise UserError(f"{self.uri}: no {ARROW_SUFFIX} file of the split {split} is there")
        return {path.name: path for path in found}


def holds_arrow(folder: Path) -> bool:
    """Whether `datasets` wrote a folder."""
    try:
        if (folder / _DICT).is_file():
            return True
        return (folder / _INFO).is_file() and ((folder / _STATE).is_file() or any(folder.glob(f"*{ARROW_SUFFIX}")))
    except OSError:  # whoever reads the folder says why it cannot be read
        return False


class _Batches:
    """A column of a file that is mapped into memory."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = column.chunks
        self._starts = [0, *itertools.accumulate(map(len, self._chunks))]

    def cell(self, row: int) -> Any:
        if row >= self._starts[-1]:
            raise FileNotFoundError(errno.ENOENT, f"the file has {self._starts[-1]} rows")
        number = bisect.bisect_right(self._starts, row) - 1
        return self._chunks[number][row - self._starts[number]].as_py()


def _opened(path: Path) -> pa.Table:
    """The table of a file, mapped into memory.

    Raises:
        UserError: the file cannot be read, or is damaged so that reading a value would leave the file.
    """
    try:
        with path.open("rb") as file:
            is_stream = file.read(len(_MAGIC)) != _MAGIC
            file.seek(-len(_END), 2)
            if is_stream and file.read() != _END:
                raise pa.ArrowInvalid("it is cut short, or still being written")
        mapped = pa.memory_map(str(path))
        table = (pa.ipc.open_stream(mapped) if is_stream else pa.ipc.open_file(mapped)).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is no readable Arrow file ({error}); copy it again") from error
    return table


def _described(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); save the data set again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no object with named entries; save the data set again")
    return found
