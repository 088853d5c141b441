"""The members of a tar: what is in it, and where."""

import tarfile
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from hsae.datasets.sources.packed.stored_file import StoredFile
from hsae.errors import UserError

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
                _check_member(member)
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
        is_start = last == "its start" and isinstance(error, tarfile.TarError)
        compressed = "; a compressed tar must be decompressed first" if is_start else ""
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UserError(f"{file}: cannot be read as a tar after {last} ({reason}){compressed}") from error


def _check_member(member: tarfile.TarInfo) -> None:
    """Refuse a member whose bytes do not simply follow its header.

    Raises:
        tarfile.ReadError: it is such a member.
    """
    if member.size < 0:
        raise tarfile.ReadError("the next header says that its member has less than no bytes")
    if member.issparse():
        raise tarfile.ReadError(f"the member {member.name} is sparse: make the tar without --sparse")


class TarIndex:
    """Where the members of a tar are. It is looked through as far as was needed; threads share it."""

    def __init__(self, file: StoredFile, places: Places | None = None) -> None:
        """Look at nothing yet. `places`: of all members, where they are known."""
        self.places: dict[str, tuple[int, int]] = dict(places or {})
        self._file = file
        self._lock = threading.Lock()
        self._is_whole = places is not None
        self._rest: Iterator[tuple[tarfile.TarInfo, BinaryIO]] | None = None

    def find(self, name: str) -> tuple[int, int] | None:
        """Offset and size of a member; None: the tar has no such member.

        Raises:
            UserError: the tar cannot be read as far as that.
        """
        if name not in self.places and not self._is_whole:
            with self._lock:
                self._look_for(name)
        return self.places.get(name)

    def _look_for(self, name: str) -> None:
        self._rest = self._rest or members(self._file)
        try:
            while name not in self.places and not self._is_whole:
                found = next(self._rest, None)
                if found is None:
                    self._is_whole = True
                else:
                    self.places[found[0].name] = (found[0].offset_data, found[0].size)
        except BaseException:
            self._rest = None  # it ended; whoever asks again begins anew
            raise


class TarIndexes:
    """The indexes of the tars that were asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], TarIndex] = OrderedDict()

    def of(self, file: StoredFile) -> TarIndex:
        """The index of a tar.

        Raises:
            OSError: there is no such file.
        """
        key = (str(file), file.version())
        with self._lock:
            index = self._kept.get(key)
            if index is None:
                self._forget()
                index = self._kept[key] = TarIndex(file)
            self._kept.move_to_end(key)
        return index

    def keep(self, file: StoredFile, version: str, places: Places) -> None:
        """Remember where all members of a tar are."""
        with self._lock:
            self._kept[str(file), version] = TarIndex(file, places)
            self._forget()

    def _forget(self) -> None:
        """Forget the tars that were not asked for of late; the last one is kept whatever its size."""
        n_members = sum(len(index.places) for index in self._kept.values())
        while n_members > _REMEMBERED and len(self._kept) > 1:
            n_members -= len(self._kept.popitem(last=False)[1].places)


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
