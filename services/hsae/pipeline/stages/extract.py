"""Stage extract: images -> one activation set per layer, in the object store; and stage part: some of its shards.

A shard is a fixed range of images. When all its layers are stored, it is entered in `activation_shard`, and whoever
works on the extraction after that skips it: a later attempt, or the extraction after its parts. The manifests are
written last, from the rows of the shards, so that they are the same whoever computed them.
"""

from sqlalchemy import select, update

from hsae.catalog import ActivationSet, ActivationShard, Json
from hsae.errors import UserError
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.kinds.spread.part import PartRequest
from hsae.pipeline.stages.activations.shard_pass import ShardPass, check_skipped
from hsae.pipeline.stages.context import StageContext
from hsae.store.activations import ActivationManifest, ShardEntry, SkippedEntry, write_manifest
from hsae.store.objects import StoredObject


def extract(request: ExtractRequest, context: StageContext) -> Json:
    """Fill the activation sets of `request.layers` in one pass, but for the shards that are there, and publish them.

    Raises:
        UserError: too many images cannot be read, none is left, or activations are not finite.
        OtherHardwareError: another kind of processor has begun them.
    """
    listing = read_listing(context.store, request.dataset)
    n_images = listing.num_rows
    work = ShardPass(request, context, listing)
    skipped = work.fill(range(-(-n_images // request.extraction.shard_images)))
    check_skipped(skipped, n_images, context)
    return _publish(request, context, work.set_ids, n_images, sorted(skipped, key=lambda entry: entry["image"]))


def extract_part(request: PartRequest, context: StageContext) -> Json:
    """Store some shards of the activation sets of `request.layers`. Raises as `extract`."""
    listing = read_listing(context.store, request.dataset)
    skipped = ShardPass(request, context, listing).fill(range(request.first_shard, request.end_shard))
    size = request.extraction.shard_images
    n_listed = min(request.end_shard * size, listing.num_rows) - request.first_shard * size
    return {"layers": list(request.layers), "n_images": n_listed - len(skipped), "n_skipped": len(skipped)}


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
            decode=request.extraction.decode,
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
