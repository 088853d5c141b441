"""One image from its source to pixel values, within a budget of memory, or the reason why it is skipped."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.datasets import (
    DecodedImage,
    ImageFile,
    ImageSource,
    ImageStream,
    MemoryBudget,
    NoMemoryForImageError,
    SkippedImage,
    UnreadableImageError,
)
from hsae.errors import PreprocessingError, UserError
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.views import VIEW_BYTES, augmented_view


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """The pixel values of an image, once per view, and the checksum (sha256, hex) of its file."""

    image: int
    sha256: str
    views: tuple[Float[Tensor, "1 3 height width"], ...]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the images of an extraction are prepared; threads share it."""

    backbone: Backbone
    source: ImageSource
    extraction: ExtractionConfig
    budget: MemoryBudget

    def __call__(self, listed: ListedImage) -> PreparedImage | SkippedImage:
        """Whatever is wrong with this one image makes it a skipped one; anything else is raised.

        Raises:
            UserError: when the file is gone or is not the one that was registered; or images are to be decoded at a
                smaller scale for a model that does not resize them.
        """
        try:
            return self._prepared(listed, alone=False)
        except (UnreadableImageError, PreprocessingError, MemoryError) as error:
            reason = _no_memory(error)
            if reason is None:
                return SkippedImage(listed.image, listed.path, str(error))
        # It may have been the other images' fault: once more, with nothing else in memory.
        try:
            return self._prepared(listed, alone=True)
        except (UnreadableImageError, PreprocessingError, MemoryError) as error:
            return SkippedImage(listed.image, listed.path, _no_memory(error) or str(error))

    def _prepared(self, listed: ListedImage, *, alone: bool) -> PreparedImage:
        name = self.source.locate(listed.path)
        with (
            _unchanged(self.source, listed) as (stream, sha256),
            ImageFile(stream, name, max_pixels=self.extraction.max_image_pixels) as file,
        ):
            if self.extraction.decode == "scaled":
                file.reduce(self.backbone.preprocessing.enough)
            needed = self.budget.n_bytes if alone else self._needed_bytes(file)
            with self.budget.lent(needed):
                return PreparedImage(listed.image, sha256, tuple(self._views(listed.image, file.decode())))

    def _needed_bytes(self, file: ImageFile) -> int:
        width, height = file.size
        # Its orientation is not known yet.
        needed_bytes = self.backbone.preprocessing.needed_bytes
        preparing = max(needed_bytes((width, height)), needed_bytes((height, width)))
        views = width * height * VIEW_BYTES if self.extraction.n_views > 1 else 0
        return file.decoding_bytes + preparing + views

    def _views(self, image: int, decoded: DecodedImage) -> Iterator[Float[Tensor, "1 3 height width"]]:
        yield self.backbone.pixel_values([decoded])
        if self.extraction.n_views > 1:
            whole = decoded.convert("RGB")
            for view in range(1, self.extraction.n_views):
                augmented = augmented_view(whole, seed=self.extraction.seed, index=image, view=view)
                yield self.backbone.pixel_values([augmented])


@contextmanager
def _unchanged(source: ImageSource, listed: ListedImage) -> Iterator[tuple[ImageStream, str]]:
    """The image's stream, and the checksum of its file; a `UserError` unless it is the file that was registered."""
    where = source.locate(listed.path)
    with ExitStack() as stack:
        try:
            stream = source.open(listed.path)
            stack.enter_context(stream)
            found = hashlib.file_digest(stream, "sha256").hexdigest()
            # After the file was read: it may have been replaced meanwhile.
            is_same = source.version(listed.path) == listed.version if listed.sha256 is None else found == listed.sha256
        except OSError as error:
            raise UserError(
                f"{where} cannot be read ({error.strerror or error}): the worker must see the data set's folder as it"
                " was registered"
            ) from error
        if not is_same:
            of_version = " (by its size or time)" if listed.sha256 is None else ""
            raise UserError(
                f"{where} has changed since the data set was registered{of_version}: register it anew with"
                " `dataset add`"
            )
        yield stream, found


def _no_memory(error: Exception) -> str | None:
    """The reason where memory was lacking."""
    if isinstance(error, NoMemoryForImageError):
        return error.reason
    return "not enough memory to prepare it" if isinstance(error, MemoryError) else None
