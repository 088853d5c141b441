"""The shards of a published activation set, for trainings that stream them."""

from typing import Protocol

import numpy as np
import torch

from hsae.pipeline.inputs.image_split import WantedImages
from hsae.sae.rows.shards import ShardLayout
from hsae.sae.rows.shared_pass import Seat
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.settings import Settings
from hsae.store.activations import ActivationManifest, read_shard
from hsae.store.faults import ObjectCorruptError
from hsae.store.local_cache import LocalCache
from hsae.store.objects import ObjectStore
from hsae.store.reading import Readable


class ShardContext(Protocol):
    """What the reading of shards needs of a job's context."""

    @property
    def store(self) -> ObjectStore:
        """The object store."""

    def check(self) -> None:
        """Raise if the job must stop."""


class StreamContext(ShardContext, Protocol):
    """What a job that streams needs besides."""

    @property
    def settings(self) -> Settings:
        """The worker's settings."""


class SetShards:
    """The shards of a set, for a training that streams them (a `hsae.sae.rows.shards.StoredShards`)."""

    def __init__(
        self,
        context: ShardContext,
        manifest: ActivationManifest,
        images: WantedImages | None = None,
        cache: Readable | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            context: the job's.
            manifest: of the set.
            images: which images' rows are wanted; None: all.
            cache: where the store's objects are read; None: in the store.
        """
        self._context = context
        self._manifest = manifest
        self._source = context.store if cache is None else cache
        self.d_model = manifest.d_model
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        bounds = [0, *(entry.end_image for entry in manifest.shards)]
        first_rows = np.cumsum([0, *(entry.n_rows for entry in manifest.shards)])[:-1]
        has_rows = np.ones(manifest.n_images, dtype=bool) if images is None else images.copy()
        has_rows[[skipped.image for skipped in manifest.skipped]] = False
        self.layout = ShardLayout(
            torch.tensor(bounds),
            torch.from_numpy(first_rows),
            torch.from_numpy(np.flatnonzero(has_rows)),
            manifest.n_views,
            manifest.n_tokens,
        )
        skipped = np.array([entry.image for entry in manifest.skipped], dtype=np.int64)
        self._skipped = np.sort(skipped)

    def check(self) -> None:
        """Raise if the job must stop."""
        self._context.check()

    def read(self, shard: int) -> TrainingRows:
        """A shard, verified against its checksum.

        Raises:
            ObjectMissingError: it is not there.
            ObjectCorruptError: it is damaged, or an image that was not skipped lacks rows.
        """
        entry = self._manifest.shards[shard]
        rows = read_shard(self._source, entry)
        group = (rows.image_index.long() - entry.first_image) * self.layout.n_views + rows.view.long()
        n_groups = (entry.end_image - entry.first_image) * self.layout.n_views
        counts = torch.bincount(group, minlength=n_groups)
        expected = torch.full((n_groups,), self.layout.n_tokens)
        first, end = np.searchsorted(self._skipped, [entry.first_image, entry.end_image])
        expected.view(-1, self.layout.n_views)[torch.from_numpy(self._skipped[first:end]) - entry.first_image] = 0
        if not torch.equal(counts, expected):
            raise ObjectCorruptError(entry.object.key, self._source.bucket, "it lacks rows of its images")
        return TrainingRows(rows.activations, rows.image_index, rows.view)


def streamed_rows(
    context: StreamContext,
    manifest: ActivationManifest,
    images: WantedImages | None = None,
    *,
    seat: Seat | None = None,
) -> StreamedRows:
    """The rows of the wanted images of a set (None: of all), read through the worker's cache if it has one.

    Args:
        context: the job's.
        manifest: of the set.
        images: by number in the listing, whether an image is wanted.
        seat: of a training that shares its pass with others.
    """
    settings = context.settings
    if settings.shard_cache is None:
        return StreamedRows(SetShards(context, manifest, images), seat)
    cache = LocalCache(context.store, settings.shard_cache.expanduser(), settings.shard_cache_bytes)
    return StreamedRows(SetShards(context, manifest, images, cache), seat)
