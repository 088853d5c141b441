"""Encodes an uploaded image: the backbone and the SAE of one analysis, loaded when first needed and kept."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from PIL import Image

from hsae.datasets import DecodedImage, ImageFile, MemoryBudget, UnreadableImageError
from hsae.errors import PreprocessingError, ServiceError
from hsae.explorer.reading.wanted import Wanted
from hsae.pipeline.gallery.thumbnails import data_uri
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

if TYPE_CHECKING:
    from hsae.explorer.reading.models import KeptModels

MAX_UPLOAD_BYTES = 32 << 20
MAX_UPLOAD_PIXELS = 50_000_000
_SHOWN_SIDE = 320
_BYTES_IN_FLIGHT = 512 << 20


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image: the numbers of its latents with their activations, the strongest first, and a picture."""

    latents: list[tuple[int, float]]
    picture: str


class Encoder:
    """Encodes one image at a time; keeps the last backbone and the last SAE."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings, self._store = settings, store
        self._budget = MemoryBudget(_BYTES_IN_FLIGHT)
        self._lock = Lock()
        self._models: KeptModels | None = None

    def encode(self, content: bytes, wanted: Wanted) -> EncodedImage:
        """The latents of an image file.

        Raises:
            UnreadableImageError: it is no image, damaged or too large.
            ModelAbsentError: the backbone's files are missing here.
            ServiceError: there is too little memory.
            UserError: the backbone or the SAE cannot be loaded.
        """
        enough = partial(self._enough, wanted) if wanted.decode == "scaled" else None
        with self.uploaded(content, enough) as (decoded, picture):
            return EncodedImage(self._latents(decoded, wanted), picture)

    @contextmanager
    def uploaded(
        self, content: bytes, enough: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    ) -> Iterator[tuple[DecodedImage, str]]:
        """An image file, decoded within the memory that uploads may take, and a small picture of it.

        Args:
            content: the file.
            enough: of the size of a JPEG the one that is enough (`ImageFile.reduce`); None: it is decoded in full.

        Raises:
            UnreadableImageError: it is no image, damaged or too large, or what the block does cannot use it.
            ServiceError: there is too little memory, also for what the block does.
        """
        max_pixels = min(MAX_UPLOAD_PIXELS, self._settings.max_image_pixels)
        with ImageFile(io.BytesIO(content), "upload", max_pixels=max_pixels) as file, _clear_errors():
            if enough is not None:
                file.reduce(enough)
            with self._budget.lent(file.decoding_bytes):
                decoded = file.decode()
                yield decoded, _picture(decoded)

    def _enough(self, wanted: Wanted, size: tuple[int, int]) -> tuple[int, int]:
        with self._kept_models() as models:
            return models.enough(size, wanted)

    def _latents(self, decoded: DecodedImage, wanted: Wanted) -> list[tuple[int, float]]:
        with self._kept_models() as models:
            return models.latents(decoded, wanted)

    @contextmanager
    def _kept_models(self) -> Iterator["KeptModels"]:
        # torch comes with it, which takes seconds: only who encodes needs it.
        from hsae.explorer.reading.models import KeptModels

        with self._lock:
            if self._models is None:
                self._models = KeptModels(self._settings, self._store)
            yield self._models


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what an image may cause in the preprocessing, and a lack of memory, into one line."""
    try:
        yield
    except PreprocessingError as error:
        raise UnreadableImageError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch has no class of its own
            raise
        raise ServiceError(
            "There is too little memory to encode this image: try again later, or a smaller image."
        ) from error


def _picture(decoded: DecodedImage) -> str:
    """A small picture of it as a data: address, drawn from the pixels, so that nothing else of the file is shown."""
    width, height = decoded.size
    scale = min(1.0, _SHOWN_SIDE / max(width, height))
    small = decoded.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return data_uri(stream.getvalue())


__all__ = ["MAX_UPLOAD_BYTES", "EncodedImage", "Encoder", "UnreadableImageError"]
