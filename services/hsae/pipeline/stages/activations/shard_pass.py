"""A pass over the images of those shards of activation sets that are missing; a shard is stored while the next runs."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial

import pyarrow as pa
from sqlalchemy import select

from hsae.backbones.backbone import Backbone
from hsae.catalog import ActivationSet, ActivationShard, Json
from hsae.datasets import source_at
from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.errors import UserError
from hsae.extraction.background import OneBehind
from hsae.extraction.batches import Batch, batches_of_ranges
from hsae.extraction.listed import ListedImage, listed_images
from hsae.extraction.precision_check import precision_checked
from hsae.extraction.shards import ShardResult, extract_shard
from hsae.pipeline.kinds.extract import EXTRACT, ExtractRequest
from hsae.pipeline.stages.activations.hardware import check_hardware
from hsae.pipeline.stages.activations.stored_shard import store_shard
from hsae.pipeline.stages.context import StageContext

log = logging.getLogger(__name__)
# What may wait to be stored while the next shard is computed; the next one waits for more.
_BYTES_BEHIND = 1 << 30


class ShardPass:
    """The activation sets of a request, and how their missing shards are filled.

    Attributes:
        set_ids: by layer the number of its set, but for those whose shards were dropped.
    """

    def __init__(self, request: ExtractRequest, context: StageContext, listing: pa.Table) -> None:
        """Look up the sets.

        Args:
            request: what is extracted.
            context: of the job.
            listing: all images of the data set.
        """
        self._request = request
        self._context = context
        self._listing = listing
        keys = [request.activation_key(layer) for layer in request.layers]
        with context.reading() as session:
            sets = {row.layer: row for row in session.scalars(select(ActivationSet).where(ActivationSet.key.in_(keys)))}
            self.set_ids = {layer: sets[layer].id for layer in request.layers if sets[layer].dropped_at is None}
            # What is published is left alone: its manifest names its shards.
            self._open_ids = {layer: sets[layer].id for layer in request.layers if sets[layer].manifest_sha256 is None}

    def fill(self, shards: range) -> list[Json]:
        """Compute and store those of `shards` that are missing; the images of all of them that cannot be read.

        Raises:
            UserError: too many images cannot be read, or activations are not finite.
            OtherHardwareError: another kind of processor has begun the sets.
        """
        size = self._request.extraction.shard_images
        listed = self._listed(shards)
        ranges = {shard: listed[at * size : (at + 1) * size] for at, shard in enumerate(shards)}
        done = self._done(shards)
        skipped: list[Json] = [entry for row in done.values() for entry in row.skipped]
        missing = {shard: images for shard, images in ranges.items() if shard not in done and self._open_ids}
        n_images, n_left = (sum(map(len, chosen.values())) for chosen in (ranges, missing))
        self._context.progress(n_images - n_left, n_images, EXTRACT.unit)
        if missing:
            check_hardware(self._context, self._open_ids.values())
            self._compute(missing, n_images, skipped)
        return skipped

    def _listed(self, shards: range) -> list[ListedImage]:
        """The images of `shards`."""
        size = self._request.extraction.shard_images
        end = min(shards.stop * size, self._listing.num_rows)
        return listed_images(self._listing, range(shards.start * size, end))

    def _done(self, shards: range) -> dict[int, ActivationShard]:
        """Of the shards that every set has one row."""
        stored: dict[int, dict[int, ActivationShard]] = {}
        of_sets = ActivationShard.activation_set_id.in_(self.set_ids.values())
        here = (ActivationShard.shard >= shards.start) & (ActivationShard.shard < shards.stop)
        with self._context.reading() as session:
            for row in session.scalars(select(ActivationShard).where(of_sets, here)):
                stored.setdefault(row.shard, {})[row.activation_set_id] = row
        wanted = set(self._open_ids.values())
        return {shard: next(iter(rows.values())) for shard, rows in stored.items() if rows.keys() >= wanted}

    def _compute(self, missing: Mapping[int, Sequence[ListedImage]], n_images: int, skipped: list[Json]) -> None:
        """Compute and store the shards of `missing`, and add the images that cannot be read to `skipped`."""
        request, context = self._request, self._context
        backbone = Backbone.load(
            request.model,
            layers=tuple(self._open_ids),
            device=context.device,
            cache_dir=context.settings.model_cache,
            precision=request.extraction.precision,
            hook=request.extraction.hook,
        )
        if request.extraction.precision == "bfloat16" and context.device.type == "cpu" and not processor_has_bfloat16():
            log.warning("this worker's processor has no instructions for bfloat16: the passes will be slow")
        n_done = n_images - sum(map(len, missing.values()))
        source = source_at(request.dataset.root)
        ahead = batches_of_ranges(backbone, source, list(missing.values()), request.extraction)
        batches = precision_checked(ahead, backbone, request.extraction)
        with OneBehind() as behind, closing(ahead):

            def on_batch(n_of_shard: int) -> None:
                context.progress(n_done + n_of_shard, n_images, EXTRACT.unit)
                context.check()
                behind.check()

            for shard, images in missing.items():
                result = self._computed(backbone, images, batches, on_batch)
                behind.begin(partial(store_shard, request, context, self._open_ids, shard, images, result))
                if sum(values.nbytes for values in result.activations.values()) > _BYTES_BEHIND:
                    behind.finish()
                n_done += len(images)
                log.info("shard %d computed: %d of %d images", shard + 1, n_done, n_images)
                skipped += [asdict(entry) for entry in result.skipped]
                check_skipped(skipped, self._listing.num_rows, context)

    def _computed(
        self,
        backbone: Backbone,
        images: Sequence[ListedImage],
        batches: Iterator[Batch],
        on_batch: Callable[[int], None],
    ) -> ShardResult:
        extraction, context = self._request.extraction, self._context
        at_once = extraction.images_at_once
        fewer = f"submit with --part-images {max(1, at_once // 2)}, which is part of the key, or shallower layers"
        with context.device_memory(f"{at_once} images at once do not fit: {fewer}"):
            return extract_shard(
                backbone,
                source_at(self._request.dataset.root),
                images,
                extraction,
                on_batch=on_batch,
                spare_memory=context.spares_memory,
                batches=batches,
            )


def check_skipped(skipped: Sequence[Json], n_images: int, context: StageContext) -> None:
    """Refuse to go on with too many images that cannot be read.

    Args:
        skipped: those of the shards so far.
        n_images: of the whole data set.
        context: of the job.

    Raises:
        UserError: they are more than the worker's settings allow.
    """
    n_skipped = len(skipped)
    allowed = context.settings.max_skipped_share
    if n_skipped > allowed * n_images:
        first = skipped[0]
        raise UserError(
            f"{n_skipped} of {n_images} images could not be read (more than {allowed:.1%}), the first is"
            f" {first['path']} ({first['reason']}): fix or remove them, or raise the worker's HSAE_MAX_SKIPPED_SHARE"
        )
