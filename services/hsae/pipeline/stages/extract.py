"""Stage extract: images -> one activation set per layer, in the object store.

A shard is a fixed range of images. When all its layers are stored, it is entered in `activation_shard`, and a later
attempt skips it; the manifests are written last. A shard is stored while the next one is computed.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from hsae.backbones.backbone import Backbone
from hsae.catalog import ActivationSet, ActivationShard, Json
from hsae.datasets import source_at
from hsae.devices.bfloat16 import processor_has_bfloat16
from hsae.errors import UserError
from hsae.extraction.background import OneBehind
from hsae.extraction.batches import Batch, batches_of_ranges
from hsae.extraction.precision_check import precision_checked
from hsae.extraction.prepare import ListedImage
from hsae.extraction.shards import ShardResult, extract_shard
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.kinds.extract import EXTRACT, ExtractRequest
from hsae.pipeline.stages.context import StageContext
from hsae.store.activations import (
    ActivationManifest,
    ActivationRows,
    ShardEntry,
    SkippedEntry,
    write_manifest,
    write_shards,
)
from hsae.store.keys import shard_key
from hsae.store.objects import StoredObject

log = logging.getLogger(__name__)
_NAMES_IN_EVENT = 20
# What may wait to be stored while the next shard is computed; the next one waits for more.
_BYTES_BEHIND = 1 << 30


def extract(request: ExtractRequest, context: StageContext) -> Json:
    """Fill the activation sets of `request.layers` in one pass.

    Raises:
        UserError: too many images cannot be read, none is left, or activations are not finite.
    """
    listing = read_listing(context.store, request.dataset)
    listed = [
        ListedImage(row["image"], row["path"], row["sha256"])
        for row in listing.select(["image", "path", "sha256"]).to_pylist()
    ]
    size = request.extraction.shard_images
    ranges = [listed[start : start + size] for start in range(0, len(listed), size)]
    with context.reading() as session:
        sets = {
            layer: session.execute(
                select(ActivationSet).where(ActivationSet.key == request.activation_key(layer))
            ).scalar_one()
            for layer in request.layers
        }
        set_ids = {layer: row.id for layer, row in sets.items()}
        # What is published is left alone: its manifest names its shards.
        open_ids = {layer: row.id for layer, row in sets.items() if row.manifest_sha256 is None}
        stored: dict[int, dict[int, ActivationShard]] = {}
        for row in session.scalars(
            select(ActivationShard).where(ActivationShard.activation_set_id.in_(set_ids.values()))
        ):
            stored.setdefault(row.shard, {})[row.activation_set_id] = row
        done = {
            shard: next(iter(rows.values())) for shard, rows in stored.items() if rows.keys() >= set(open_ids.values())
        }
    skipped = [entry for row in done.values() for entry in row.skipped]
    n_done = sum(len(ranges[shard]) for shard in done)
    context.progress(n_done, len(listed), EXTRACT.unit)
    if len(done) < len(ranges):
        missing = {shard: images for shard, images in enumerate(ranges) if shard not in done}
        _Pass(request, context, open_ids, len(listed)).fill(missing, skipped)
    _check_skipped(skipped, len(listed), context)
    return _publish(request, context, set_ids, len(listed), sorted(skipped, key=lambda entry: entry["image"]))


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over the images of the shards that are missing."""

    request: ExtractRequest
    context: StageContext
    set_ids: dict[int, int]
    n_listed: int

    def fill(self, missing: Mapping[int, Sequence[ListedImage]], skipped: list[Json]) -> None:
        """Compute and store the shards of `missing`, and add the images that cannot be read to `skipped`."""
        request, context = self.request, self.context
        backbone = Backbone.load(
            request.model,
            layers=tuple(self.set_ids),
            device=context.device,
            cache_dir=context.settings.model_cache,
            precision=request.extraction.precision,
            hook=request.extraction.hook,
        )
        if request.extraction.precision == "bfloat16" and context.device.type == "cpu" and not processor_has_bfloat16():
            log.warning("this worker's processor has no instructions for bfloat16: the passes will be slow")
        n_done = self.n_listed - sum(map(len, missing.values()))
        source = source_at(request.dataset.root)
        ahead = batches_of_ranges(backbone, source, list(missing.values()), request.extraction)
        batches = precision_checked(ahead, backbone, request.extraction)
        with OneBehind() as behind, closing(ahead):

            def on_batch(n_of_shard: int) -> None:
                context.progress(n_done + n_of_shard, self.n_listed, EXTRACT.unit)
                context.check()
                behind.check()

            for shard, images in missing.items():
                result = self._computed(backbone, images, batches, on_batch)
                behind.begin(partial(_store, request, context, self.set_ids, shard, images, result))
                if sum(values.nbytes for values in result.activations.values()) > _BYTES_BEHIND:
                    behind.finish()
                n_done += len(images)
                log.info("shard %d computed: %d of %d images", shard + 1, n_done, self.n_listed)
                skipped += [asdict(entry) for entry in result.skipped]
                _check_skipped(skipped, self.n_listed, context)

    def _computed(
        self,
        backbone: Backbone,
        images: Sequence[ListedImage],
        batches: Iterator[Batch],
        on_batch: Callable[[int], None],
    ) -> ShardResult:
        extraction, context = self.request.extraction, self.context
        at_once = extraction.images_at_once
        fewer = f"submit with --part-images {max(1, at_once // 2)}, which is part of the key, or shallower layers"
        with context.device_memory(f"{at_once} images at once do not fit: {fewer}"):
            return extract_shard(
                backbone,
                source_at(self.request.dataset.root),
                images,
                extraction,
                on_batch=on_batch,
                spare_memory=context.spares_memory,
                batches=batches,
            )


def _store(
    request: ExtractRequest,
    context: StageContext,
    set_ids: dict[int, int],
    shard: int,
    images: Sequence[ListedImage],
    result: ShardResult,
) -> None:
    first, end = images[0].image, images[-1].image + 1
    skipped = [asdict(entry) for entry in result.skipped]
    shards = {
        shard_key(request.activation_key(layer), shard): ActivationRows(values, result.image_index, result.view)
        for layer, values in result.activations.items()
    }
    entries = write_shards(context.store, shards, first_image=first, end_image=end, check=context.check)
    rows = [(layer, entry.object, entry.n_rows) for layer, entry in zip(result.activations, entries, strict=True)]
    with context.transaction() as session:
        for layer, stored, n_rows in rows:
            values = {
                "object_key": stored.key,
                "sha256": stored.sha256,
                "n_bytes": stored.n_bytes,
                "n_rows": n_rows,
                "first_image": first,
                "end_image": end,
                "skipped": skipped,
            }
            statement = insert(ActivationShard).values(activation_set_id=set_ids[layer], shard=shard, **values)
            session.execute(statement.on_conflict_do_update(index_elements=["activation_set_id", "shard"], set_=values))
    if skipped:
        names = ", ".join(entry["path"] for entry in skipped[:_NAMES_IN_EVENT])
        context.event(f"skipped {len(skipped)} unreadable images: {names}", {"skipped": skipped})


def _check_skipped(skipped: Sequence[Json], n_images: int, context: StageContext) -> None:
    n_skipped = len(skipped)
    allowed = context.settings.max_skipped_share
    if n_skipped > allowed * n_images:
        first = skipped[0]
        raise UserError(
            f"{n_skipped} of {n_images} images could not be read (more than {allowed:.1%}), the first is"
            f" {first['path']} ({first['reason']}): fix or remove them, or raise the worker's HSAE_MAX_SKIPPED_SHARE"
        )


def _publish(
    request: ExtractRequest, context: StageContext, set_ids: dict[int, int], n_listed: int, skipped: list[Json]
) -> Json:
    """Write the manifests, and enter them in the catalog in the transaction that publishes the sets."""
    n_rows = 0
    n_images = n_listed - len(skipped)
    if n_images == 0:
        raise UserError("not one image of the data set could be read")
    for layer, set_id in set_ids.items():
        with context.reading() as session:
            entries = session.scalars(
                select(ActivationShard)
                .where(ActivationShard.activation_set_id == set_id)
                .order_by(ActivationShard.shard)
            ).all()
        n_rows = sum(entry.n_rows for entry in entries)
        manifest = ActivationManifest(
            key=request.activation_key(layer),
            model=request.model.name,
            revision=request.model.revision,
            layer=layer,
            tokens=request.extraction.tokens,
            dtype=request.extraction.dtype,
            precision=request.extraction.precision,
            hook=request.extraction.hook,
            d_model=request.model.shape(layer, request.extraction.hook).width,
            n_rows=n_rows,
            n_images=n_listed,
            n_views=request.extraction.n_views,
            n_tokens=n_rows // (n_images * request.extraction.n_views),
            shards=tuple(
                ShardEntry(
                    StoredObject(entry.object_key, entry.sha256, entry.n_bytes),
                    entry.n_rows,
                    entry.first_image,
                    entry.end_image,
                )
                for entry in entries
            ),
            skipped=tuple(SkippedEntry(**entry) for entry in skipped),
        )
        context.check()
        stored = write_manifest(context.store, manifest)
        with context.transaction() as session:
            session.execute(
                update(ActivationSet)
                .where(ActivationSet.id == set_id)
                .values(
                    n_rows=n_rows,
                    n_images=n_images,
                    n_skipped=len(skipped),
                    manifest_sha256=stored.sha256,
                )
            )
    return {
        "layers": list(request.layers),
        "rows_per_layer": n_rows,
        "n_images": n_images,
        "n_skipped": len(skipped),
    }
