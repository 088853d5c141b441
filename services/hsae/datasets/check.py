"""Decodes a whole data set to list, before an extraction, the images that it will skip."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from hsae.datasets.dataset import ImageDataset
from hsae.datasets.decoding.image import ImageFile
from hsae.datasets.decoding.memory_budget import MemoryBudget
from hsae.datasets.decoding.unreadable import UnreadableImageError
from hsae.datasets.sources.source import opened

_N_IMAGES_PER_TASK = 32
# Of decoded images at once, whatever the number of processors.
_BYTES_IN_FLIGHT = 512 << 20


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that cannot be used.

    Attributes:
        image: its number in the listing.
        path: its path there.
        reason: why it cannot be used, one line.
    """

    image: int
    path: str
    reason: str


def check_images(dataset: ImageDataset, *, max_pixels: int) -> list[SkippedImage]:
    """Decode every image, with one thread per processor, and return those that cannot be used, in listing order.

    Raises:
        UserError: a file is missing or cannot be read at all.
    """
    paths: list[str] = dataset.listing["path"].to_pylist()
    budget = MemoryBudget(_BYTES_IN_FLIGHT)

    def check(start: int) -> list[SkippedImage]:
        return _check_some(dataset, paths[start : start + _N_IMAGES_PER_TASK], start, max_pixels, budget)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        parts = pool.map(check, range(0, len(paths), _N_IMAGES_PER_TASK))
        return [skipped for part in parts for skipped in part]


def _check_some(
    dataset: ImageDataset, paths: Sequence[str], first: int, max_pixels: int, budget: MemoryBudget
) -> list[SkippedImage]:
    skipped = []
    for image, path in enumerate(paths, start=first):
        try:
            with (
                opened(dataset.source, path) as stream,
                ImageFile(stream, dataset.source.locate(path), max_pixels=max_pixels) as file,
                budget.lent(file.decoding_bytes),
            ):
                for _ in file.decode().bands():
                    pass
        except UnreadableImageError as error:
            skipped.append(SkippedImage(image, path, error.reason))
    return skipped
