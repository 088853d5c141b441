"""Small pictures of a data set's images, kept in a bounded cache."""

import base64
import hashlib
import io
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Protocol

from PIL import Image

from hsae.datasets import ImageFile, MemoryBudget, UnreadableImageError, source_at
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.gallery.cache_folder import CacheFolder
from hsae.pipeline.gallery.images import ImageUnavailableError, image_stream, version_of

MEDIA_TYPE = "image/webp"
_FORMAT = 1  # of what is cached; another picture for the same request gets another number
_QUALITY = 80
_MAX_SIDE = 2048
_BYTES_IN_MEMORY = 32 << 20
# Of decoded images at once, whatever the number of threads that ask.
_BYTES_IN_FLIGHT = 512 << 20
# As many as an extraction allows by default: what was scored can be shown.
_MAX_PIXELS = ExtractionConfig().max_image_pixels


def data_uri(content: bytes) -> str:
    """A picture of `MEDIA_TYPE` as an address that holds it, for a page without files beside it."""
    return f"data:{MEDIA_TYPE};base64,{base64.b64encode(content).decode()}"


class _Cache(Protocol):
    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, content: bytes) -> None: ...


class Thumbnails:
    """Makes and keeps small pictures of images; threads and processes may share one cache folder."""

    def __init__(
        self, folder: Path | None, *, side: int = 160, max_bytes: int = 512 << 20, max_pixels: int = _MAX_PIXELS
    ) -> None:
        """Open the cache.

        Args:
            folder: where pictures are kept, made at need; None keeps them in memory, 32 MiB at most.
            side: the longest side in pixels unless `get` says otherwise.
            max_bytes: the most that the cache holds; the pictures that nobody asked for longest go first.
            max_pixels: larger images are not decoded.
        """
        self._side, self._max_pixels = side, max_pixels
        self._budget = MemoryBudget(_BYTES_IN_FLIGHT)
        self._cache: _Cache = (
            _Memory(min(max_bytes, _BYTES_IN_MEMORY)) if folder is None else CacheFolder(folder, max_bytes)
        )

    def get(self, root: str, path: str, *, side: int | None = None) -> bytes:
        """The picture as WebP (`MEDIA_TYPE`), RGB and upright; an image that is smaller keeps its size.

        Args:
            root: `dataset.root`.
            path: the image's path in the data set's listing; from the catalog, never from a request.
            side: the longest side at most, in pixels.

        Raises:
            ImageUnavailableError: the root is not mounted, or the image is gone, damaged or too large. It is a
                UserError of one line that names the root or the image.
            UserError: there is no source for the root's scheme, or its server is away.
        """
        side = min(_MAX_SIDE, max(1, side or self._side))
        key = _key(root, path, version_of(root, path), str(side))
        cached = self._cache.get(key)
        if cached is not None and _is_whole(cached):
            return cached
        content = self._made(root, path, side)
        self._cache.put(key, content)
        return content

    def _made(self, root: str, path: str, side: int) -> bytes:
        name = source_at(root).locate(path)
        try:
            with (
                image_stream(root, path) as stream,
                ImageFile(stream, name, max_pixels=self._max_pixels) as file,
                self._budget.lent(file.decoding_bytes),
            ):
                decoded = file.decode()
                width, height = decoded.size
                scale = side / max(width, height)
                if scale >= 1:
                    small = decoded.convert("RGB")
                else:
                    size = (max(1, round(width * scale)), max(1, round(height * scale)))
                    small = decoded.resize(size, Image.Resampling.LANCZOS)
        except UnreadableImageError as error:
            raise ImageUnavailableError(f"image {name}: {error.reason}") from error
        written = io.BytesIO()
        small.save(written, "WEBP", quality=_QUALITY)
        return written.getvalue()


class _Memory:
    """The pictures that were asked for last, in memory; threads may share it."""

    def __init__(self, max_bytes: int) -> None:
        self._free = max_bytes
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key]

    def put(self, key: str, content: bytes) -> None:
        with self._lock:
            self._free += len(self._kept.pop(key, b""))
            self._kept[key] = content
            self._free -= len(content)
            while self._free < 0:
                _, oldest = self._kept.popitem(last=False)
                self._free += len(oldest)


def _key(*parts: str) -> str:
    digest = hashlib.sha256(str(_FORMAT).encode())
    for part in parts:
        digest.update(b"\0" + part.encode("utf-8", errors="surrogateescape"))
    return digest.hexdigest()


def _is_whole(content: bytes) -> bool:
    """Whether the length is what the WebP header says: a file may be cut off where a machine lost power."""
    return content[:4] == b"RIFF" and len(content) == 8 + int.from_bytes(content[4:8], "little")
