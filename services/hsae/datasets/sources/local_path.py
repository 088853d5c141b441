"""Which source a local path means, and which path a location means."""

import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hsae.datasets.sources.csv_listing import CSV_SUFFIX, CsvSource
from hsae.datasets.sources.folder import FolderSource
from hsae.datasets.sources.imagenet_val import ImageNetValSource, holds_imagenet_val
from hsae.datasets.sources.packed.arrow import ARROW_SUFFIX, ArrowSource, holds_arrow
from hsae.datasets.sources.packed.parquet import PARQUET_SUFFIX, ParquetSource
from hsae.datasets.sources.packed.webdataset import TAR_SUFFIX, WebDatasetSource
from hsae.datasets.sources.registry import register_source, scheme_of
from hsae.datasets.sources.source import ImageSource
from hsae.datasets.sources.wnid_files import WnidFilesSource, holds_wnid_files
from hsae.errors import UserError


@register_source("", "file")
def local_source(location: str) -> ImageSource:
    """The source that the name of a path tells, of a folder that what it holds tells; `check` says if nothing is there.

    Raises:
        UserError: a file:// URI of another machine.
    """
    path = _path_in(location).absolute()
    suffix = path.suffix.lower()
    if suffix == PARQUET_SUFFIX:
        return ParquetSource(str(path))
    if suffix == ARROW_SUFFIX or holds_arrow(path):
        return ArrowSource(str(path))
    if suffix in {CSV_SUFFIX, TAR_SUFFIX} and _is_there_and_no_folder(path):
        return CsvSource(path) if suffix == CSV_SUFFIX else WebDatasetSource(str(path))
    if holds_imagenet_val(path):
        return ImageNetValSource(path)
    return WnidFilesSource(path) if holds_wnid_files(path) else FolderSource(path)


def local_path(location: str | Path) -> Path | None:
    """The path of a path or file:// URI, as it is written; None for a URI of another scheme.

    Raises:
        UserError: a file:// URI of another machine.
    """
    return _path_in(str(location)) if scheme_of(str(location)) in {"", "file"} else None


def resolved(location: str | Path) -> str:
    """A local path made absolute, with all links followed; a URI of another scheme unchanged.

    Raises:
        UserError: a file:// URI of another machine.
    """
    path = local_path(location)
    return str(location) if path is None else str(path.resolve())


def _path_in(location: str) -> Path:
    if not scheme_of(location):
        return Path(location)
    parts = urlsplit(location)
    if parts.netloc not in {"", "localhost"}:
        raise UserError(f"{location}: names the machine {parts.netloc}; write file:///PATH for a path of this one")
    return Path(unquote(parts.path))


def _is_there_and_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return False
