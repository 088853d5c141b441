"""Which latents fire on an image, and on which images a latent fires: read from files, never whole in memory.

An analysis' object with every activation may have hundreds of megabytes. It is copied to a bounded folder once, checked
against its checksum, and mapped into memory from there.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, cast

import numpy as np
from jaxtyping import Float32, Int32, Int64
from safetensors import SafetensorError, safe_open

from hsae.errors import UserError
from hsae.store.keys import latents_key
from hsae.store.objects import ObjectStore

_ENTRIES_AT_ONCE = 1 << 22
_N_ATTEMPTS = 3
_PARTIAL = "."  # begins the names of copies in the making


@dataclass(frozen=True, slots=True)
class Firing:
    """Where something fires, the strongest first.

    Attributes:
        where: numbers of latents, or of images.
        activations: how strongly there.
    """

    where: Int64[np.ndarray, "n"]
    activations: Float32[np.ndarray, "n"]


class StoredLatents:
    """The stored activations of analyses, by image and by latent; threads share it."""

    def __init__(self, store: ObjectStore, folder: Path, *, max_bytes: int = 2 << 30) -> None:
        """Use a folder for copies of objects; the copies that were not used longest are deleted beyond `max_bytes`."""
        self._store, self._folder, self._max_bytes = store, folder, max_bytes
        self._copying = Lock()

    def of_image(self, analysis_key: str, sha256: str, image: int) -> Firing | None:
        """The latents that fire on an image of the data set's listing; None if the image was not encoded."""
        with self._opened(analysis_key, sha256) as file:
            rows = np.flatnonzero(file.get_tensor("images") == image)
            if len(rows) == 0:
                return None
            start, end = (int(edge) for edge in file.get_slice("indptr")[int(rows[0]) : int(rows[0]) + 2])
            indices = file.get_slice("indices")[start:end]
            data = file.get_slice("data")[start:end]
        return _strongest(indices.astype(np.int64), data)

    def of_latent(self, analysis_key: str, sha256: str, latent: int) -> tuple[Firing, int]:
        """The images on which a latent fires, by their numbers in the listing, and how many were encoded."""
        with self._opened(analysis_key, sha256) as file:
            images: Int32[np.ndarray, "n_images"] = file.get_tensor("images")
            indptr = file.get_tensor("indptr")
            indices, data = file.get_slice("indices"), file.get_slice("data")
            found, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
            for start in range(0, int(indptr[-1]), _ENTRIES_AT_ONCE):
                end = min(start + _ENTRIES_AT_ONCE, int(indptr[-1]))
                places = np.flatnonzero(indices[start:end] == latent)
                if len(places):
                    found.append(places + start)
                    values.append(data[start:end][places])
        entries = np.concatenate(found)
        rows = np.searchsorted(indptr, entries, side="right") - 1
        return _strongest(images[rows].astype(np.int64), np.concatenate(values)), len(images)

    @contextlib.contextmanager
    def _opened(self, analysis_key: str, sha256: str) -> Iterator[Any]:
        try:
            with self._open(analysis_key, sha256) as file:
                yield file
        except (OSError, SafetensorError) as error:
            self._forget(sha256)
            raise UserError(
                f"the activations of this analysis cannot be read ({error}): see `hsae-admin gc`"
            ) from error

    def _open(self, analysis_key: str, sha256: str) -> Any:
        """Open the copy; one that another explorer deletes meanwhile, or that is damaged, is copied again."""
        for _ in range(_N_ATTEMPTS - 1):
            path = self._copy(analysis_key, sha256)
            try:
                return safe_open(path, framework="numpy")
            except (OSError, SafetensorError):
                self._forget(sha256)
        return safe_open(self._copy(analysis_key, sha256), framework="numpy")

    def _forget(self, sha256: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / sha256).unlink()

    def _copy(self, analysis_key: str, sha256: str) -> Path:
        path = self._folder / sha256
        with self._copying:
            if not path.exists():
                self._fetch(analysis_key, sha256, path)
                self._shrink(path)
            with contextlib.suppress(OSError):
                os.utime(path)
        return path

    def _fetch(self, analysis_key: str, sha256: str, path: Path) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked_file(self._folder) as stream:
                aside = Path(stream.name)
                try:
                    self._store.check(
                        latents_key(analysis_key, sha256), sha256=sha256, into=cast("BinaryIO", stream.file)
                    )
                    stream.flush()
                    aside.replace(path)
                except BaseException:
                    aside.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise UserError(
                f"the activations cannot be kept in {self._folder} ({error.strerror or error}): choose another --cache"
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
                    files.append((status.st_mtime_ns, status.st_size, path))
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size


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


def _strongest(where: Int64[np.ndarray, "n"], activations: Float32[np.ndarray, "n"]) -> Firing:
    fires = activations > 0
    where, activations = where[fires], activations[fires]
    order = np.lexsort((where, -activations))
    return Firing(where[order], activations[order])
