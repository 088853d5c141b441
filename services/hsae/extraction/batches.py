"""Images from disk to pixel values, ahead of the forward pass, in threads."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.datasets import SkippedImage, UnreadableImageError, open_image
from hsae.errors import UserError
from hsae.extraction.views import augmented_view

_READERS = 4
_BATCHES_AHEAD = 3


@dataclass(frozen=True, slots=True)
class ListedImage:
    """A row of a data set's listing."""

    image: int
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: the images that could be read, and their pixel values once per view."""

    images: tuple[int, ...]
    views: tuple[Float[Tensor, "batch 3 height width"], ...]
    skipped: tuple[SkippedImage, ...]


def _open(root: Path, listed: ListedImage, max_pixels: int) -> Image.Image:
    path = root / listed.path
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): the worker must see the data set's folder as it was registered"
        ) from error
    if hashlib.sha256(content).hexdigest() != listed.sha256:
        raise UserError(f"{path} has changed since the data set was registered: register it anew with `dataset add`")
    return open_image(path, max_pixels=max_pixels)


def _load(
    backbone: Backbone, root: Path, listed: Sequence[ListedImage], n_views: int, seed: int, max_pixels: int
) -> Batch:
    opened: list[tuple[int, Image.Image]] = []
    skipped = []
    for entry in listed:
        try:
            opened.append((entry.image, _open(root, entry, max_pixels)))
        except UnreadableImageError as error:
            skipped.append(SkippedImage(entry.image, entry.path, str(error)))
    views = []
    for view in range(n_views if opened else 0):
        images = [
            picture if view == 0 else augmented_view(picture, seed=seed, index=index, view=view)
            for index, picture in opened
        ]
        views.append(backbone.pixel_values(images))
    return Batch(tuple(index for index, _ in opened), tuple(views), tuple(skipped))


def iterate_batches(
    backbone: Backbone,
    root: Path,
    listed: Sequence[ListedImage],
    *,
    batch_size: int,
    n_views: int,
    seed: int,
    max_pixels: int,
) -> Iterator[Batch]:
    """Batches of `listed` in order; an unreadable image leaves its batch smaller and moves no other image.

    Raises:
        UserError: when a file is gone or is not the one that was registered.
    """
    slices = deque(listed[start : start + batch_size] for start in range(0, len(listed), batch_size))
    pending: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="images") as pool:
        try:
            while slices or pending:
                while slices and len(pending) <= _BATCHES_AHEAD:
                    pending.append(pool.submit(_load, backbone, root, slices.popleft(), n_views, seed, max_pixels))
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
