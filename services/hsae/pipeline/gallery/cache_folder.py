"""Small files in a folder that never grows beyond a bound; several processes may use it at the same time."""

import contextlib
import os
from pathlib import Path

from hsae.store.whole_file import write_whole

# By the first two digits of the key. Each folder holds its share of the bound by itself, so that a process looks at few
# files when it writes one, and no process needs to know what the others wrote elsewhere.
_N_FOLDERS = 64


class CacheFolder:
    """Files by key, of which the ones that were not read longest are deleted first.

    A file appears whole or not at all. Whoever wrote a file deletes until its folder is within the bound, so the bound
    holds however many processes write. Without room on the disk, or without the right to write, nothing is kept.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Use a folder, which is made when the first file is written."""
        self._folder = folder
        self._share = max_bytes // _N_FOLDERS

    def get(self, key: str) -> bytes | None:
        """The content, or None if it is not kept.

        Args:
            key: a hexadecimal digest.
        """
        file = self._file(key)
        try:
            content = file.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # deleted meanwhile, or not ours to touch
            os.utime(file)
        return content

    def put(self, key: str, content: bytes) -> None:
        """Keep the content, and delete others until all fit."""
        file = self._file(key)
        if len(content) > self._share:
            return
        with contextlib.suppress(OSError):  # a cache is no reason to fail
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(file, content)
            self._shrink(file.parent)

    def _file(self, key: str) -> Path:
        return self._folder / f"{int(key[:2], 16) % _N_FOLDERS:02d}" / key

    def _shrink(self, folder: Path) -> None:
        with os.scandir(folder) as entries:
            found = [(Path(entry.path), status) for entry in entries if (status := _status(entry)) is not None]
        total = sum(status.st_size for _, status in found)
        for path, status in sorted(found, key=lambda it: it[1].st_mtime_ns):
            if total <= self._share:
                return
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= status.st_size


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None where another process deleted it meanwhile."""
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None
