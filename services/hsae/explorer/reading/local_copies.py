"""Copies of objects in a bounded folder, from which parts are read without the whole ever being in memory.

An object with every activation of an analysis may have hundreds of megabytes. It is copied once, checked against its
checksum, and mapped into memory from there.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any, BinaryIO, cast

from safetensors import SafetensorError, safe_open

from hsae.errors import ServiceError, UserError
from hsae.store.objects import ObjectStore

_N_ATTEMPTS = 3
_PARTIAL = "."  # begins the names of copies in the making
_CHECK_AGAIN_SECONDS = 600.0
MAX_THREADS_COPYING = 8
"""Threads that copy, check or wait for a copy at the same time; the server has five times as many."""


@dataclass(slots=True)
class _Copy:
    """One copy as this process knows it.

    Attributes:
        lock: held while it is made or checked.
        sound: the file that was last found sound, by inode, size and time of writing.
        checked_at: when that was, on the monotonic clock.
    """

    lock: Lock = field(default_factory=Lock)
    sound: tuple[int, int, int] | None = None
    checked_at: float = 0.0


class LocalCopies:
    """Copies of safetensors objects by their checksums; threads share it, and processes share its folder.

    Every copy has a lock of its own, so that who wants another object does not wait. At most `MAX_THREADS_COPYING`
    threads copy, check or wait; further ones are told to come back, and the rest of the server goes on.
    """

    def __init__(self, store: ObjectStore, folder: Path, *, max_bytes: int) -> None:
        """Use a folder; the copies that were not used longest are deleted beyond `max_bytes`."""
        self._store, self._folder, self._max_bytes = store, folder, max_bytes
        self._copies: dict[str, _Copy] = {}
        self._known, self._places = Lock(), Semaphore(MAX_THREADS_COPYING)

    @contextlib.contextmanager
    def opened(self, key: str, sha256: str) -> Iterator[Any]:
        """The tensors of an object, for the block; slices are read when they are asked for.

        Raises:
            ServiceError: too many copies are being made already.
            UserError: the object or its copy cannot be read.
        """
        try:
            with self._open(key, sha256) as file:
                yield file
        except (OSError, SafetensorError) as error:
            self._forget(sha256)
            raise UserError(f"{key} cannot be read ({error}): see `hsae-admin gc`") from error

    def _open(self, key: str, sha256: str) -> Any:
        """Open the copy; one that another process deletes meanwhile, or that is damaged, is made again."""
        for _ in range(_N_ATTEMPTS - 1):
            path = self._sound(key, sha256)
            try:
                return safe_open(path, framework="numpy")
            except (OSError, SafetensorError):
                self._forget(sha256)
        return safe_open(self._sound(key, sha256), framework="numpy")

    def _sound(self, key: str, sha256: str) -> Path:
        """The path of a copy that has the checksum; it is made, or made again, where there is none."""
        path = self._folder / sha256
        with self._known:
            copy = self._copies.setdefault(sha256, _Copy())
        if _is_known(copy, path):
            _touch(path)
            return path
        if not self._places.acquire(blocking=False):
            raise ServiceError("Large files are being copied from the object store: try again in a moment.")
        try:
            with copy.lock:
                if not _is_known(copy, path):
                    if not _has_checksum(path, sha256):
                        self._fetch(key, sha256, path)
                        self._shrink(path)
                    copy.sound, copy.checked_at = _identity(path), time.monotonic()
        finally:
            self._places.release()
        _touch(path)
        return path

    def _forget(self, sha256: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / sha256).unlink()

    def _fetch(self, key: str, sha256: str, path: Path) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked_file(self._folder) as stream:
                aside = Path(stream.name)
                try:
                    self._store.check(key, sha256=sha256, into=cast("BinaryIO", stream.file))
                    stream.flush()
                    aside.replace(path)
                except BaseException:
                    aside.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise UserError(
                f"copies cannot be kept in {self._folder} ({error.strerror or error}): choose another --cache"
            ) from error

    def _shrink(self, kept: Path) -> None:
        """Delete what a killed process left half copied, then the copies that were not used longest.

        Other processes may do the same at the same time. What they are copying counts, and is theirs.
        """
        files: list[tuple[int, int, Path]] = []
        total = 0
        for path in self._folder.iterdir():
            is_partial = path.name.startswith(_PARTIAL)
            if is_partial and _delete_if_abandoned(path):
                continue
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                total += status.st_size
                if not is_partial and path != kept:
                    files.append((status.st_atime_ns, status.st_size, path))
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


def _is_known(copy: _Copy, path: Path) -> bool:
    """Whether the file is the one that was found sound a short time ago; a disk may rot without any sign."""
    if copy.sound is None or time.monotonic() - copy.checked_at > _CHECK_AGAIN_SECONDS:
        return False
    return _identity(path) == copy.sound


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _has_checksum(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == sha256
    except OSError:
        return False


def _touch(path: Path) -> None:
    """Note that the copy was used now; the time of its writing stays, which tells whether it is the same file."""
    with contextlib.suppress(OSError):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


@contextlib.contextmanager
def _locked_file(folder: Path) -> "Iterator[tempfile._TemporaryFileWrapper[bytes]]":
    """A new file for a copy in the making; its lock says that its process is alive."""
    while True:
        with tempfile.NamedTemporaryFile(prefix=_PARTIAL, dir=folder, delete=False) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if Path(stream.name).exists():  # nobody took it for abandoned before it was locked
                yield stream
                return


def _delete_if_abandoned(path: Path) -> bool:
    """Delete a copy in the making whose process has ended: nobody holds its lock."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    except OSError:  # not ours to open
        return False
    return True
