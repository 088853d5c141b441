"""Objects of the store in a folder of this machine, known by their checksums, within a bound of bytes."""

import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path

from hsae.store.reading import Readable
from hsae.store.whole_file import write_whole

log = logging.getLogger(__name__)
_IN_USE_SECONDS = 3600.0


class LocalCache:
    """Reads objects of a store through a folder; several processes and threads may use it at the same time.

    A file appears whole or not at all. Every read compares the checksum; a file that is damaged is deleted, and the
    object read from the store. A folder without room, or one that cannot be written, keeps nothing.

    A training reads a set again and again, each time in another order. Where the set is larger than the folder, to
    delete the files that were not read longest would delete most before they are read again. So a file that was read
    within the last hour stays, and new objects are not kept while all files are such.
    """

    def __init__(self, store: Readable, folder: Path, max_bytes: int) -> None:
        """Use a folder, which is made when the first object is kept; beyond `max_bytes` nothing more is kept."""
        self._store = store
        self._folder = folder
        self._max_bytes = max_bytes
        self._warned = False

    @property
    def bucket(self) -> str:
        """The store's bucket."""
        return self._store.bucket

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        """Read an object; see `ObjectStore.get`. Without a checksum it comes from the store."""
        if sha256 is None:
            return self._store.get(key)
        kept = self._kept(sha256)
        if kept is not None:
            return kept
        content = self._store.get(key, sha256=sha256)
        try:
            self._keep(sha256, content)
        except OSError as error:  # a cache is no reason to fail
            if not self._warned:
                log.warning("objects cannot be kept in %s: %s", self._folder, error.strerror or error)
            self._warned = True
        return content

    def _kept(self, sha256: str) -> bytes | None:
        file = self._folder / sha256
        try:
            content = file.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(content).hexdigest() != sha256:
            log.warning("%s is damaged: it is read from the store again", file)
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        with contextlib.suppress(OSError):  # deleted meanwhile
            os.utime(file)
        return content

    def _keep(self, sha256: str, content: bytes) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._make_room(len(content)):
            return
        write_whole(self._folder / sha256, content)

    def _make_room(self, n_bytes: int) -> bool:
        """Delete files that were not read for an hour, the oldest first, until there is room; returns whether."""
        now = time.time()
        total, old = 0, []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    age = now - status.st_mtime
                    total += status.st_size
                    if age > _IN_USE_SECONDS:  # among them what a killed process left half written
                        old.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        for _, size, path in sorted(old):
            if total + n_bytes <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total + n_bytes <= self._max_bytes
