"""The reader of published activation sets: rows in stored order, one shard in memory at a time.

Trainings that stream read by `hsae.pipeline.inputs.streamed_set`.

Three functions hold more than a shard: `read_training_rows` every row of the set, `read_embeddings` and
`read_plain_rows` one row per image.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int32
from sqlalchemy import select
from sqlalchemy.orm import Session
from torch import Tensor

from hsae.catalog import ActivationSet
from hsae.errors import UserError
from hsae.pipeline.inputs.image_split import WantedImages
from hsae.pipeline.kinds.activation_sets.dropped import dropped_error
from hsae.sae.rows.source import TrainingRows, check_finite, in_chunks
from hsae.store.activations import ActivationManifest, ActivationRows, ShardEntry, read_manifest, read_shard
from hsae.store.faults import ObjectMissingError
from hsae.store.keys import manifest_key
from hsae.store.objects import ObjectStore


class Reading(Protocol):
    """What a reader needs: a job's context has it, and so can any other program."""

    @property
    def store(self) -> ObjectStore:
        """The object store."""

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction for reading."""

    def check(self) -> None:
        """Raise if the reader must stop."""


@dataclass(frozen=True, slots=True)
class PlainImages:
    """The plain view of the images of one shard.

    Attributes:
        activations: every token of every image, on the CPU; one token unless the set is of patch tokens.
        image_index: each image's number in the data set's listing.
    """

    activations: Float32[Tensor, "n_images n_tokens d_model"]
    image_index: Int32[Tensor, "n_images"]

    def means(self) -> Float32[Tensor, "n_images d_model"]:
        """One row per image: its only token, or the mean of its patches."""
        return self.activations.mean(1) if self.activations.shape[1] > 1 else self.activations[:, 0]


def open_activation_set(context: Reading, key: str) -> tuple[ActivationSet, ActivationManifest]:
    """The catalog's row and the verified manifest of a published activation set.

    Raises:
        UserError: there is no such set.
        ActivationsDroppedError: its shards were deleted, as its studies asked.
        ObjectMissingError: it is not published any more, because a part of it was lost.
    """
    with context.reading() as session:
        row = session.execute(select(ActivationSet).where(ActivationSet.key == key)).scalar_one_or_none()
    if row is None:
        raise UserError(f"activation set {key} is not there: submit the request again to extract it")
    if row.dropped_at is not None:
        raise dropped_error(row, context.store.bucket)
    if row.manifest_sha256 is None:
        raise ObjectMissingError(manifest_key(key, "*"), context.store.bucket)
    return row, read_manifest(context.store, key, sha256=row.manifest_sha256)


def iterate_shards(context: Reading, manifest: ActivationManifest) -> Iterator[ActivationRows]:
    """The set's shards in order, each verified against its checksum."""
    return (_read(context, entry) for entry in manifest.shards)


def read_range(
    context: Reading, manifest: ActivationManifest, start: int, stop: int
) -> Iterator[tuple[int, ActivationRows]]:
    """The rows `start` to `stop` (exclusive) of a set, a shard's share at a time; other shards are not read.

    Each share comes with the number of its first row.
    """
    first = 0
    for entry in manifest.shards:
        begin, end = max(start, first), min(stop, first + entry.n_rows)
        if begin < end:
            shard, within = _read(context, entry), slice(begin - first, end - first)
            yield begin, ActivationRows(shard.activations[within], shard.image_index[within], shard.view[within])
        first += entry.n_rows


def iterate_plain_images(context: Reading, manifest: ActivationManifest) -> Iterator[PlainImages]:
    """The plain view of every image, with the images of one shard at a time; shards without any are left out."""
    for shard in iterate_shards(context, manifest):
        plain = shard.view == 0
        if bool(plain.any()):  # else no image of its range could be read
            yield PlainImages(
                shard.activations[plain].float().view(-1, manifest.n_tokens, manifest.d_model),
                shard.image_index[plain][:: manifest.n_tokens],
            )


def read_plain_rows(
    context: Reading, manifest: ActivationManifest, wanted: WantedImages | None = None
) -> tuple[Int32[np.ndarray, "n_images"], Float32[np.ndarray, "n_images d_model"]]:
    """The wanted images that could be read, and one row of activations for each (patch tokens: their mean)."""
    n_there = manifest.n_rows // (manifest.n_tokens * manifest.n_views)
    n_most = n_there if wanted is None else min(n_there, int(np.count_nonzero(wanted)))
    images, activations = np.empty(n_most, np.int32), np.empty((n_most, manifest.d_model), np.float32)
    end = 0
    for plain in iterate_plain_images(context, manifest):
        index = plain.image_index.numpy()
        chosen = np.ones(len(index), np.bool_) if wanted is None else wanted[index]
        first, end = end, end + int(np.count_nonzero(chosen))
        images[first:end], activations[first:end] = index[chosen], plain.means().numpy()[chosen]
    return images[:end], activations[:end]


def read_training_rows(
    context: Reading, manifest: ActivationManifest, images: WantedImages | None = None
) -> TrainingRows:
    """The rows of the wanted images in memory, as stored: float32 or bfloat16 `[n_rows, d_model]`."""
    rows = TrainingRows(
        torch.empty(manifest.n_rows, manifest.d_model, dtype=getattr(torch, manifest.dtype)),
        torch.empty(manifest.n_rows, dtype=torch.int32),
        torch.empty(manifest.n_rows, dtype=torch.int16),
    )
    start = 0
    for shard in iterate_shards(context, manifest):
        wanted = _wanted(shard, images)
        image_index = shard.image_index[wanted]
        end = start + len(image_index)
        rows.activations[start:end] = shard.activations[wanted]
        rows.image_index[start:end] = image_index
        rows.view[start:end] = shard.view[wanted]
        start = end
    return TrainingRows(rows.activations[:start], rows.image_index[:start], rows.view[:start])


class StoredRows:
    """The rows of the wanted images of a set, read from the store every time (a `hsae.sae.rows.source.RowSource`).

    It only holds image, view and place of each row: 14 bytes a row.
    """

    def __init__(self, context: Reading, manifest: ActivationManifest, images: WantedImages | None = None) -> None:
        """Read the set once.

        Raises:
            UserError: a row holds NaN or infinity.
        """
        self._context = context
        self._manifest = manifest
        self.d_model = manifest.d_model
        image_index, view, places = [], [], []
        start = 0
        for shard in iterate_shards(context, manifest):
            check_finite(TrainingRows(shard.activations, shard.image_index, shard.view), first_row=start)
            wanted = _wanted(shard, images)
            image_index.append(shard.image_index[wanted])
            view.append(shard.view[wanted])
            end = start + len(shard.image_index)
            places.append(torch.arange(start, end)[wanted])
            start = end
        self.image_index, self.view, self._places = torch.cat(image_index), torch.cat(view), torch.cat(places)

    def chunks(self, positions: Int[Tensor, "n"], n_rows: int) -> Iterator[Float32[Tensor, "chunk d_model"]]:
        """The rows at ascending positions as float32, `n_rows` at a time; shards without any of them are not read."""
        return in_chunks(self._parts(self._places[positions]), n_rows)

    def _parts(self, positions: Int[Tensor, "n"]) -> Iterator[Float32[Tensor, "part d_model"]]:
        """The rows at ascending places in the set, a shard's share at a time."""
        ends = torch.tensor([entry.n_rows for entry in self._manifest.shards], dtype=torch.int64).cumsum(0)
        n_taken = 0
        for entry, end in zip(self._manifest.shards, ends.tolist(), strict=True):
            n_before = int(torch.searchsorted(positions, end))
            if n_before > n_taken:
                within = positions[n_taken:n_before] - (end - entry.n_rows)
                yield _read(self._context, entry).activations[within].float()
            n_taken = n_before


def read_embeddings(
    key: str, images: Int32[np.ndarray, "n_images"], context: Reading
) -> Float32[np.ndarray, "n_images d_model"]:
    """The plain view's activations of these images, one row each (patch tokens: their mean).

    Args:
        key: key of the activation set.
        images: numbers in the listing, ascending.
        context: the job's.

    Raises:
        UserError: the set does not exist (any more), or lacks one of the images.
    """
    _, manifest = open_activation_set(context, key)
    found = np.empty((len(images), manifest.d_model), dtype=np.float32)
    is_there = np.zeros(len(images), dtype=bool)
    for plain in iterate_plain_images(context, manifest):
        index = plain.image_index.numpy()
        at = np.minimum(np.searchsorted(images, index), len(images) - 1)
        wanted = images[at] == index
        found[at[wanted]] = plain.means().numpy()[wanted]
        is_there[at[wanted]] = True
    if not is_there.all():
        raise UserError(
            f"the embeddings {key} lack {int((~is_there).sum())} of {len(images)} scored images, the first is image"
            f" {images[~is_there][0]} of the listing: choose other embeddings (`submit --embeddings own`), or fix the"
            " images and submit under a new data set"
        )
    return found


def _wanted(shard: ActivationRows, images: WantedImages | None) -> slice | Bool[Tensor, "n_rows"]:
    """The index of the rows of a shard that are of wanted images."""
    return slice(None) if images is None else torch.from_numpy(images)[shard.image_index.long()]


def _read(context: Reading, entry: ShardEntry) -> ActivationRows:
    context.check()
    return read_shard(context.store, entry)
