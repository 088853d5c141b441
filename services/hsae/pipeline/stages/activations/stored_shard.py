"""A computed shard, stored and entered in the catalog."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy.dialects.postgresql import insert

from hsae.catalog import ActivationShard
from hsae.extraction.listed import ListedImage
from hsae.extraction.shards import ShardResult
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.stages.activations.first_reading import check_first_reading
from hsae.pipeline.stages.activations.hardware import claim_hardware
from hsae.pipeline.stages.context import StageContext
from hsae.store.activations import ActivationRows, write_shards
from hsae.store.keys import shard_key

_NAMES_IN_EVENT = 20


def store_shard(
    request: ExtractRequest,
    context: StageContext,
    set_ids: dict[int, int],
    shard: int,
    images: Sequence[ListedImage],
    result: ShardResult,
) -> None:
    """Store a shard of every layer of `set_ids`, then enter all of them at once.

    Raises:
        OtherHardwareError: another kind of processor has begun the sets meanwhile.
        UserError: a file that no registration has read is not the one that another extraction read.
    """
    claim_hardware(context, set_ids.values())
    first, end = images[0].image, images[-1].image + 1
    skipped = [asdict(entry) for entry in result.skipped]
    shards = {
        shard_key(request.activation_key(layer), shard): ActivationRows(values, result.image_index, result.view)
        for layer, values in result.activations.items()
    }
    entries = write_shards(context.store, shards, first_image=first, end_image=end, check=context.check)
    rows = [(layer, entry.object, entry.n_rows) for layer, entry in zip(result.activations, entries, strict=True)]
    with context.transaction() as session:
        check_first_reading(session, request.dataset, images, result.checksums)
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
