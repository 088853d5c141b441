"""A file on a server that gives ranges of its bytes."""

import errno
import io
import threading
from abc import abstractmethod
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, Protocol

from urllib3.exceptions import HTTPError

from hsae.datasets.sources.packed.stored_file import StoredFile
from hsae.errors import ServiceError

_BUFFER_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_TRIES = 5
"""How often a connection may break without having brought a byte."""
_AHEAD_BYTES = 4 << 20
_WINDOWS = 16


class Body(Protocol):
    """What a server sends, piece by piece."""

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """At most `amt` bytes; none at the end."""

    def close(self) -> None:
        """Receive no more."""


@dataclass(frozen=True, slots=True)
class Range:
    """An answer: the bytes from `offset` on, the size of the whole file, and what changes when that is replaced."""

    body: Body
    size: int
    version: str


class RemoteFile(StoredFile):
    """A file on a server; subclasses ask for a range. What changes while it is read is an error."""

    is_remote = True

    @abstractmethod
    def ask(self, offset: int, size: int) -> Range:
        """The bytes from `offset`, `size` of them or all to the end; `size` is not 0.

        Raises:
            OSError: the server does not give them.
            ServiceError: the server cannot be reached.
        """

    @cached_property
    def _about(self) -> tuple[int, str]:
        """Size and version, as they were at first."""
        found = self.ask(0, 1)
        with suppress(HTTPError):  # a body that is read to its end leaves its connection to the next request
            found.body.read(1, decode_content=False)
        found.body.close()
        return found.size, found.version

    @property
    def size(self) -> int:
        """Of the file in bytes."""
        return self._about[0]

    def version(self) -> str:
        """See `StoredFile`."""
        return f"{self._about[0]} {self._about[1]}"

    def open(self) -> BinaryIO:
        """See `StoredFile`."""
        return io.BufferedReader(_Forwards(self), _BUFFER_BYTES)

    def read(self, offset: int, size: int) -> bytes:
        """See `StoredFile`. Where reads follow each other, more than was asked for is fetched and kept for a while."""
        return windows.read(self, offset, min(size, max(0, self.size - offset)))

    def body(self, offset: int, size: int) -> Body:
        """What follows `offset`.

        Raises:
            OSError: also where the file is another one by now.
        """
        found = self.ask(offset, size)
        if (found.size, found.version) != self._about:
            found.body.close()
            raise OSError(errno.ESTALE, "the file on the server was replaced while it was read")
        return found.body

    def fetch(self, offset: int, size: int) -> bytes:
        """A range as a whole, within the file; a connection that breaks is made anew."""
        content = bytearray()
        n_broken = 0
        while len(content) < size:
            before = len(content)
            body = self.body(offset + before, size - before)
            try:
                while piece := body.read(min(_PIECE_BYTES, size - len(content)), decode_content=False):
                    content += piece
            except (HTTPError, ConnectionError, TimeoutError):
                pass
            finally:
                body.close()
            n_broken = n_broken + 1 if len(content) == before else 0
            if n_broken == _TRIES:
                raise ServiceError(f"{self}: the connection to its server breaks time and again; check the network")
        return bytes(content)


class _Forwards(io.RawIOBase):
    """A remote file as a stream, through the ranges that other readers use, too."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        size = min(len(buffer), max(0, self._file.size - self._at))
        piece = windows.read(self._file, self._at, size, at_least=min(size, 1))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


@dataclass(slots=True)
class _Window:
    """A range that was asked for; threads wait for it together."""

    file: RemoteFile
    start: int
    end: int
    content: Future[bytes] = field(default_factory=Future)


class Windows:
    """The ranges of files that were fetched last, of all files together: a bound on memory.

    A read that follows one of them fetches ahead, a read elsewhere does not.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[_Window] = deque(maxlen=_WINDOWS)

    def read(self, file: RemoteFile, offset: int, size: int, *, at_least: int | None = None) -> bytes:
        """`size` bytes within the file, or as many as are there already but not fewer than `at_least`."""
        end = offset + size
        enough = end if at_least is None else offset + at_least
        with self._lock:
            of_file = [window for window in self._kept if window.file is file]
            window = next((it for it in of_file if it.start <= offset and enough <= it.end), None)
            is_mine = window is None
            if window is None:
                follows = any(it.start <= offset <= it.end + _AHEAD_BYTES for it in of_file)
                ahead = offset + max(size, _AHEAD_BYTES if follows else 0)
                window = _Window(file, offset, min(file.size, ahead))
                self._kept.append(window)
        if is_mine:
            self._fill(window)
        content = window.content.result()
        return content[offset - window.start : end - window.start]

    def _fill(self, window: _Window) -> None:
        try:
            window.content.set_result(window.file.fetch(window.start, window.end - window.start))
        except BaseException as error:
            window.content.set_exception(
                error if isinstance(error, Exception) else ServiceError(f"{window.file}: interrupted")
            )
            self._forget(window)
            raise
        if window.end - window.start > _AHEAD_BYTES:
            self._forget(window)

    def _forget(self, window: _Window) -> None:
        with self._lock:
            self._kept = deque((it for it in self._kept if it is not window), maxlen=_WINDOWS)


windows = Windows()
