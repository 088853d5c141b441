"""Images that are files of this machine: what such sources share."""

import os
from io import BufferedReader
from pathlib import Path

from hsae.datasets.sources.source import ImageSource, Stamp
from hsae.errors import UserError


class LocalFiles(ImageSource):
    """Files below a folder, or anywhere if their paths are absolute. Subclasses list them."""

    def __init__(self, path: Path, folder: Path) -> None:
        """Make the source.

        Args:
            path: what the user gave, absolute.
            folder: the folder that image paths are relative to, absolute.
        """
        super().__init__(str(path), str(folder))
        self.path = path
        self.folder = folder

    def check(self) -> None:
        """See `ImageSource`."""
        check_utf8(str(self.path))

    def read(self, path: str) -> bytes:
        """See `ImageSource`."""
        return (self.folder / path).read_bytes()

    def open(self, path: str) -> BufferedReader:
        """The file itself, so that a file of any size takes no memory."""
        return open(self._place(path), "rb")  # noqa: PTH123  (see `_place`)

    def locate(self, path: str) -> str:
        """See `ImageSource`."""
        return str(self.folder / path)

    def version(self, path: str) -> str:
        """See `ImageSource`."""
        return self.stamp(path).version

    def stamp(self, path: str) -> Stamp:
        """See `ImageSource`."""
        return _stamp_of_file(self._place(path))

    def _place(self, path: str) -> str:
        """Of a file; not by pathlib, which keeps a trace of every name that it has seen."""
        return os.path.join(self.folder, path)  # noqa: PTH118


def version_of_file(path: Path) -> str:
    """Size and time of a file.

    Raises:
        OSError: there is none.
    """
    return _stamp_of_file(path).version


def _stamp_of_file(path: Path | str) -> Stamp:
    status = os.stat(path)  # noqa: PTH116  (see `_place`)
    return Stamp(f"{status.st_size}-{status.st_mtime_ns}", status.st_size)


def check_utf8(name: str) -> str:
    """The name, unchanged.

    Raises:
        UserError: it is not UTF-8, so it could be neither stored nor fingerprinted.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        shown = os.fsencode(name).decode("utf-8", errors="backslashreplace")
        raise UserError(f"{shown}: the name is not UTF-8; rename the file or folder") from error
    return name
