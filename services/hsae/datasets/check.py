"""Decodes a whole data set, to say before an extraction which images it will skip."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hsae.datasets.dataset import ImageDataset
from hsae.datasets.image import UnreadableImageError, open_image

_N_IMAGES_PER_TASK = 32


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that cannot be used: its number in the listing, its path there, and why."""

    image: int
    path: str
    reason: str


def check_images(dataset: ImageDataset, *, max_pixels: int) -> list[SkippedImage]:
    """Decode every image, one per processor at a time; returns those that cannot be used, in listing order.

    Raises `UserError` for a file that is gone or cannot be read at all.
    """
    paths: list[str] = dataset.listing["path"].to_pylist()

    def check(start: int) -> list[SkippedImage]:
        return _check_some(dataset, paths[start : start + _N_IMAGES_PER_TASK], start, max_pixels)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        parts = pool.map(check, range(0, len(paths), _N_IMAGES_PER_TASK))
        return [skipped for part in parts for skipped in part]


def _check_some(dataset: ImageDataset, paths: Sequence[str], first: int, max_pixels: int) -> list[SkippedImage]:
    skipped = []
    for image, path in enumerate(paths, start=first):
        try:
            open_image(dataset.root / path, max_pixels=max_pixels)
        except UnreadableImageError as error:
            skipped.append(SkippedImage(image, path, error.reason))
    return skipped
