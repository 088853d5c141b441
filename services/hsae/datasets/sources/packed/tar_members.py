"""The members of a tar: what is in it, and where."""

import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, BinaryIO

from hsae.datasets.sources.packed.stored_file import StoredFile
from hsae.errors import ServiceError, UserError

_HEADER_BYTES = 16 << 20
"""The most that one header may take, of which tarfile reads as much as the header itself says."""
_REMEMBERED = 200_000
"""Members of the tars that were read last."""

Places = Mapping[str, tuple[int, int]]
"""By the name of a member its offset and its size in bytes."""


def members(file: StoredFile) -> Iterator[tuple[tarfile.TarInfo, BinaryIO]]:
    """The regular files of an uncompressed tar, each with the tar opened at its first byte.

    Raises:
        UserError: it cannot be read to its end.
    """
    last = "its start"
    try:
        with file.open() as opened, tarfile.open(fileobj=_Headers(opened), mode="r:") as tar:
            for member in tar:
                if member.isreg():
                    opened.seek(member.offset_data)
                    yield member, opened
                    last = f"the member {member.name}"
                tar.members = []  # type: ignore[attr-defined]  # it would keep a description of every member
            # tarfile takes a damaged header for the end, which is a block of zeros.
            opened.seek(tar.offset)
            if opened.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the next header is damaged or missing")
    except (tarfile.TarError, OSError, EOFError) as error:
        compressed = "; a compressed tar must be decompressed first" if last == "its start" else ""
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"{file}: cannot be read as a tar after {last} ({reason}){compressed}") from error


class TarIndexes:
    """Where the members of tars are: each tar is looked through once, whatever threads ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Future[Places]] = OrderedDict()

    def of(self, file: StoredFile) -> Places:
        """The places of a tar's members.

        Raises:
            OSError: there is no such file.
            UserError: it cannot be read to its end.
        """
        key = (str(file), file.version())
        with self._lock:
            places = self._kept.get(key)
            is_mine = places is None
            if places is None:
                places = self._kept[key] = Future()
            self._kept.move_to_end(key)
        if is_mine:
            try:
                places.set_result({member.name: (member.offset_data, member.size) for member, _ in members(file)})
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                places.set_exception(error if isinstance(error, Exception) else ServiceError(f"{file}: interrupted"))
                raise
            self._forget()
        return places.result()

    def keep(self, file: StoredFile, version: str, places: Places) -> None:
        """Remember what was found on another way."""
        done: Future[Places] = Future()
        done.set_result(places)
        with self._lock:
            self._kept[str(file), version] = done
        self._forget()

    def _forget(self) -> None:
        """Forget the tars that were not asked for of late; the last one is kept whatever its size."""
        with self._lock:
            done = [(key, len(it.result())) for key, it in self._kept.items() if it.done() and not it.exception()]
            n_members = sum(n for _, n in done)
            for key, n in done[:-1]:
                if n_members <= _REMEMBERED:
                    break
                del self._kept[key]
                n_members -= n


class _Headers:
    """The tar as tarfile reads it: its headers alone, none of which may be huge."""

    def __init__(self, opened: BinaryIO) -> None:
        self._opened = opened

    def read(self, size: int) -> bytes:
        if size > _HEADER_BYTES:
            raise tarfile.ReadError(f"a header says that it has {size:,} bytes")
        return self._opened.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)
