"""A large file that is read at any place, on this machine or on a server."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from hsae.datasets.sources.local_files import version_of_file


class StoredFile(ABC):
    """A file; its text names it in messages. Threads share it.

    Every method raises `OSError` if the file is missing or cannot be read, `ServiceError` if its server is away.
    """

    is_remote: ClassVar[bool] = False
    """Whether all that lies between two places is better read than skipped."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The file from its start, to be read forwards for the most part."""

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends."""

    @abstractmethod
    def version(self) -> str:
        """What changes when the file is replaced."""

    @abstractmethod
    def __str__(self) -> str: ...


@dataclass(frozen=True)
class LocalFile(StoredFile):
    """A file of this machine."""

    path: Path

    def open(self) -> BinaryIO:
        """See `StoredFile`."""
        return self.path.open("rb")

    def read(self, offset: int, size: int) -> bytes:
        """See `StoredFile`."""
        with self.path.open("rb") as opened:
            opened.seek(offset)
            return opened.read(size)

    def version(self) -> str:
        """See `StoredFile`."""
        return version_of_file(self.path)

    def __str__(self) -> str:
        return str(self.path)
