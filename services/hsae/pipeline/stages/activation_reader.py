"""Published activation sets, read back for training and analysis."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int32
from sqlalchemy import select

from hsae.catalog import ActivationSet
from hsae.errors import UserError
from hsae.pipeline.stages.context import StageContext
from hsae.sae.rows import TrainingRows
from hsae.store.activations import ActivationManifest, ActivationShard, read_manifest, read_shard
from hsae.store.faults import ObjectMissingError
from hsae.store.keys import manifest_key


def open_activation_set(context: StageContext, key: str) -> tuple[ActivationSet, ActivationManifest]:
    """The catalog's row and the verified manifest of a published activation set.

    Raises:
        UserError: when there is no such set.
        ObjectMissingError: when it is not published any more, for a part of it was lost.
    """
    with context.reading() as session:
        row = session.execute(select(ActivationSet).where(ActivationSet.key == key)).scalar_one_or_none()
    if row is None:
        raise UserError(f"activation set {key} is not there: submit the request again to extract it")
    if row.manifest_sha256 is None:
        raise ObjectMissingError(manifest_key(key, "*"), context.store.bucket)
    return row, read_manifest(context.store, key, sha256=row.manifest_sha256)


def iterate_shards(context: StageContext, manifest: ActivationManifest) -> Iterator[ActivationShard]:
    """The set's shards in order, each verified against its checksum."""
    for entry in manifest.shards:
        context.check()
        yield read_shard(context.store, entry)


def read_training_rows(
    context: StageContext, manifest: ActivationManifest, on_shard: Callable[[int], None]
) -> TrainingRows:
    """All rows of the set in memory, as stored: float32 or bfloat16 `[n_rows, d_model]`."""
    dtype = getattr(torch, manifest.dtype)
    rows = TrainingRows(
        torch.empty(manifest.n_rows, manifest.d_model, dtype=dtype),
        torch.empty(manifest.n_rows, dtype=torch.int32),
        torch.empty(manifest.n_rows, dtype=torch.int16),
    )
    start = 0
    for shard in iterate_shards(context, manifest):
        end = start + len(shard.image_index)
        rows.activations[start:end] = shard.activations
        rows.image_index[start:end] = shard.image_index
        rows.view[start:end] = shard.view
        start = end
        on_shard(start)
    return rows


def read_embeddings(
    key: str, images: Int32[np.ndarray, "n_images"], context: StageContext
) -> Float32[np.ndarray, "n_images d_model"]:
    """The plain view's activations of these images, one row each (patch tokens: their mean); `images` ascends.

    Raises:
        UserError: when the set is not there (any more), or lacks one of the images.
    """
    _, manifest = open_activation_set(context, key)
    n_tokens = manifest.n_tokens
    found = np.empty((len(images), manifest.d_model), dtype=np.float32)
    is_there = np.zeros(len(images), dtype=bool)
    for shard in iterate_shards(context, manifest):
        plain = shard.view == 0
        if not bool(plain.any()):  # no image of its range could be read
            continue
        index = shard.image_index[plain][::n_tokens].numpy()
        at = np.minimum(np.searchsorted(images, index), len(images) - 1)
        wanted = images[at] == index
        rows = shard.activations[plain].float().view(-1, n_tokens, manifest.d_model).mean(1).numpy()
        found[at[wanted]] = rows[wanted]
        is_there[at[wanted]] = True
    if not is_there.all():
        raise UserError(
            f"the embeddings {key} lack {int((~is_there).sum())} of {len(images)} scored images, the first is image"
            f" {images[~is_there][0]} of the listing: choose other embeddings (`submit --embeddings own`), or mend the"
            " images and submit under a new data set"
        )
    return found
