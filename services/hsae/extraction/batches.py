"""Images from their source to pixel values, ahead of the forward pass, in threads."""

import os
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.datasets import ImageSource, MemoryBudget, SkippedImage
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.listed import ListedImage
from hsae.extraction.prepare import Preparation, PreparedImage

# A thread per core: a GPU waits for its images on all of them. On few cores some wait for files meanwhile.
_READERS = max(4, min(32, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
# Prepared images that wait: so many batches, but no more bytes where a batch is smaller than that.
_BATCHES_AHEAD = 4
_BYTES_AHEAD = 256 << 20
# Of decoded images at once; one that takes more is decoded when no other is.
_BYTES_IN_FLIGHT = 512 << 20


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: the images that could be read, the checksums of their files, and their pixel values once per view."""

    images: tuple[int, ...]
    checksums: tuple[str, ...]
    views: tuple[Float[Tensor, "batch 3 height width"], ...]
    skipped: tuple[SkippedImage, ...]


def iterate_batches(
    backbone: Backbone,
    source: ImageSource,
    listed: Sequence[ListedImage],
    extraction: ExtractionConfig,
    *,
    budget: MemoryBudget | None = None,
) -> Iterator[Batch]:
    """Batches of `listed` in order; an unreadable image leaves its batch smaller and moves no other image.

    Each image is decoded, prepared and dropped by itself. `budget` (default: 512 MiB) bounds what is decoded at once.

    Raises:
        UserError: when a file is gone or is not the one that was registered.
    """
    return batches_of_ranges(backbone, source, [listed], extraction, budget=budget)


def batches_of_ranges(
    backbone: Backbone,
    source: ImageSource,
    ranges: Sequence[Sequence[ListedImage]],
    extraction: ExtractionConfig,
    *,
    budget: MemoryBudget | None = None,
) -> Generator[Batch, None, None]:
    """The batches of one range after the other, each as `iterate_batches` has them; no batch is of two ranges.

    The threads read on over the end of a range, so that the first batch of the next one is ready.

    Raises:
        UserError: when a file is gone or is not the one that was registered.
    """
    prepare = Preparation(backbone, source, extraction, budget or MemoryBudget(_BYTES_IN_FLIGHT))
    height, width = backbone.preprocessing.image_size
    fitting = _BYTES_AHEAD // (3 * height * width * 4 * extraction.n_views)
    batch_size = extraction.batch_size
    n_ahead = max(batch_size + _READERS, min(batch_size * _BATCHES_AHEAD, fitting))
    coming = chain.from_iterable(ranges)
    pending: deque[Future[PreparedImage | SkippedImage]] = deque()
    with ThreadPoolExecutor(_READERS, thread_name_prefix="images") as pool:
        try:
            for listed in ranges:
                for start in range(0, len(listed), batch_size):
                    pending.extend(pool.submit(prepare, image) for image in islice(coming, n_ahead - len(pending)))
                    n_images = min(batch_size, len(listed) - start)
                    yield _batch([pending.popleft().result() for _ in range(n_images)])
        finally:
            for future in pending:
                future.cancel()


def _batch(found: Sequence[PreparedImage | SkippedImage]) -> Batch:
    prepared = [image for image in found if isinstance(image, PreparedImage)]
    return Batch(
        tuple(image.image for image in prepared),
        tuple(image.sha256 for image in prepared),
        tuple(torch.cat(view) for view in zip(*(image.views for image in prepared), strict=True)),
        tuple(image for image in found if isinstance(image, SkippedImage)),
    )
