"""An activation set: shards of rows as safetensors objects, and the manifest that makes them one artifact."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from hsae.errors import UserError
from hsae.pydantic_errors import mistakes
from hsae.store.faults import ObjectCorruptError
from hsae.store.keys import manifest_key
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.reading import Readable
from hsae.store.tensors import get_tensors, put_tensors

SHARD_FORMAT = "hsae.activation-shard"
MANIFEST_FORMAT = "hsae.activation-manifest"
FORMAT_VERSION = 1

# Shards that are written at once; of each there is a copy in memory.
_WRITERS = 4
_ACTIVATION_DTYPES = (torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class ActivationRows:
    """Rows of one layer's activations and where each comes from.

    `activations`: bfloat16 or float32 `[n_rows, d_model]`; `image_index`: int32 `[n_rows]`, the image's
    position in the data set's listing; `view`: int16 `[n_rows]`, 0 for the plain image, above 0 for augmented
    training views.
    """

    activations: Float[Tensor, "n_rows d_model"]
    image_index: Int[Tensor, " n_rows"]
    view: Int[Tensor, " n_rows"]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """A stored shard: its object, its rows, and the images `[first_image, end_image)` that it covers."""

    object: StoredObject
    n_rows: int
    first_image: int
    end_image: int


@dataclass(frozen=True, slots=True)
class SkippedEntry:
    """An image that gave no rows: its position in the listing, its path there, and why."""

    image: int
    path: str
    reason: str


class ActivationManifest(BaseModel):
    """What makes shards one activation set; written last: where it lies, the set is complete."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    key: str
    model: str
    revision: str
    layer: int
    tokens: Literal["cls", "registers", "patches", "mean"]
    dtype: Literal["bfloat16", "float32"]
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    hook: str = "residual"
    decode: Literal["exact", "scaled"] = "exact"
    d_model: int
    n_rows: int
    n_images: int
    n_views: int
    n_tokens: int
    shards: tuple[ShardEntry, ...]
    skipped: tuple[SkippedEntry, ...]

    def to_json(self) -> str:
        """Canonical JSON (sorted keys, no spaces): the same manifest is always the same text.

        `precision`, `hook` and `decode`, which were added later, are left out at their default, so that earlier
        manifests keep their text.
        """
        fields = self.model_dump(mode="json")
        for name in ("precision", "hook", "decode"):
            if fields[name] == type(self).model_fields[name].default:
                del fields[name]
        content = {"format": MANIFEST_FORMAT, "version": FORMAT_VERSION, **fields}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The manifest of `to_json`. Raises ValueError for anything else, `UserError` for a later version."""
        content = json.loads(text)
        if not isinstance(content, dict) or content.pop("format", None) != MANIFEST_FORMAT:
            raise ValueError("it is no activation manifest")
        if fault := _version_fault(content.pop("version", None), "the activation manifest"):
            raise ValueError(fault)
        manifest = cls.model_validate(content)
        if fault := manifest.fault():
            raise ValueError(fault)
        return manifest

    def fault(self) -> str | None:
        """What contradicts itself in this manifest, None for a sound one."""
        position = 0
        for entry in self.shards:
            if entry.first_image != position or entry.end_image < position:
                return f"shard {entry.object.key} does not start at image {position}"
            position = entry.end_image
        if position != self.n_images:
            return f"its shards cover {position} of {self.n_images} images"
        if sum(entry.n_rows for entry in self.shards) != self.n_rows:
            return f"its shards' rows do not sum to {self.n_rows}"
        n_rows = (self.n_images - len(self.skipped)) * self.n_views * self.n_tokens
        if n_rows != self.n_rows:
            return (
                f"{self.n_images} images less {len(self.skipped)} skipped, {self.n_views} views and "
                f"{self.n_tokens} tokens make {n_rows} rows, not {self.n_rows}"
            )
        return None


def write_shard(store: ObjectStore, key: str, shard: ActivationRows, *, first_image: int, end_image: int) -> ShardEntry:
    """Store a shard.

    Args:
        store: the object store.
        key: from `hsae.store.keys.shard_key`.
        shard: rows of the images `[first_image, end_image)` only.
        first_image: the first image of the shard's range.
        end_image: the image after the last.

    Raises:
        ValueError: the tensors are no such shard.
    """
    if fault := _shard_fault(shard, first_image, end_image):
        raise ValueError(f"shard {key}: {fault}")
    tensors = {"activations": shard.activations, "image_index": shard.image_index, "view": shard.view}
    metadata = {
        "format": SHARD_FORMAT,
        "version": str(FORMAT_VERSION),
        "first_image": str(first_image),
        "end_image": str(end_image),
    }
    stored = put_tensors(store, key, tensors, metadata)
    return ShardEntry(stored, shard.activations.shape[0], first_image, end_image)


def write_shards(
    store: ObjectStore,
    shards: Mapping[str, ActivationRows],
    *,
    first_image: int,
    end_image: int,
    check: Callable[[], None] = lambda: None,
) -> list[ShardEntry]:
    """Store the shards of several layers, some at a time: a server's answer takes longer than its bytes.

    After an error none is begun any more. Those on their way are waited for, so that nothing is written afterwards.

    Args:
        store: the object store.
        shards: by key, as for `write_shard`.
        first_image: the first image of the range of all of them.
        end_image: the image after the last.
        check: called before each, in a thread; what it raises is an error like any other.

    Returns:
        The entries in the order of the shards.

    Raises:
        ValueError: the tensors are no such shards.
    """
    failed = Event()

    def write(key: str) -> ShardEntry:
        if failed.is_set():
            raise CancelledError
        try:
            check()
            return write_shard(store, key, shards[key], first_image=first_image, end_image=end_image)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="shards") as pool:
        futures = [pool.submit(write, key) for key in shards]
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    for error in errors:
        if not isinstance(error, CancelledError):
            raise error
    return [future.result() for future in futures]


def read_shard(store: Readable, entry: ShardEntry) -> ActivationRows:
    """The shard of a manifest's entry, on the CPU. Values are not checked, so NaN passes.

    Raises:
        ObjectMissingError: there is no such object.
        ObjectCorruptError: checksum, layout, dtype, number of rows or range of images differ from the entry's.
    """
    key = entry.object.key
    tensors, metadata = get_tensors(store, key, sha256=entry.object.sha256)
    if metadata.get("format") != SHARD_FORMAT or set(tensors) != {"activations", "image_index", "view"}:
        raise ObjectCorruptError(key, store.bucket, "it is no activation shard")
    if fault := _version_fault(metadata.get("version"), f"object {key}"):
        raise ObjectCorruptError(key, store.bucket, fault)
    shard = ActivationRows(tensors["activations"], tensors["image_index"], tensors["view"])
    fault = _shard_fault(shard, entry.first_image, entry.end_image)
    if fault is None and shard.activations.shape[0] != entry.n_rows:
        fault = f"it has {shard.activations.shape[0]} rows, the manifest says {entry.n_rows}"
    if fault is not None:
        raise ObjectCorruptError(key, store.bucket, fault)
    return shard


def write_manifest(store: ObjectStore, manifest: ActivationManifest) -> StoredObject:
    """Publish the activation set; call it when every shard is stored.

    Raises:
        ValueError: the manifest contradicts itself.
    """
    if fault := manifest.fault():
        raise ValueError(f"manifest {manifest.key}: {fault}")
    content = manifest.to_json().encode()
    return store.put(manifest_key(manifest.key), content, content_type="application/json")


def read_manifest(store: ObjectStore, key: str, *, sha256: str) -> ActivationManifest:
    """The manifest with checksum `sha256` of the activation set `key`.

    Raises:
        ObjectMissingError: there is none.
        ObjectCorruptError: the object is no manifest of this set.
    """
    object_key = manifest_key(key, sha256)
    content = store.get(object_key, sha256=sha256)
    try:
        manifest = ActivationManifest.from_json(content)
    except ValidationError as error:
        first, *_ = mistakes(error)  # of a manifest that a program wrote all shards may be wrong
        raise ObjectCorruptError(object_key, store.bucket, f"{first.place}: {first.reason}") from error
    except ValueError as error:
        raise ObjectCorruptError(object_key, store.bucket, str(error)) from error
    if manifest.key != key:
        raise ObjectCorruptError(object_key, store.bucket, f"it is the manifest of {manifest.key}")
    return manifest


def _shard_fault(shard: ActivationRows, first_image: int, end_image: int) -> str | None:
    activations, image_index, view = shard.activations, shard.image_index, shard.view
    if activations.ndim != 2 or activations.dtype not in _ACTIVATION_DTYPES:
        found = f"{activations.dtype} {list(activations.shape)}"
        return f"activations are {found}, not bfloat16 or float32 [n_rows, d_model]"
    n_rows = activations.shape[0]
    for name, tensor, dtype in (("image_index", image_index, torch.int32), ("view", view, torch.int16)):
        if tensor.dtype != dtype or tuple(tensor.shape) != (n_rows,):
            return f"{name} is {tensor.dtype} {list(tensor.shape)}, not {dtype} [{n_rows}]"
    if not 0 <= first_image <= end_image:
        return f"there are no images {first_image} to {end_image}"
    if n_rows and not first_image <= int(image_index.min()) <= int(image_index.max()) < end_image:
        return f"it has rows of images outside {first_image} to {end_image - 1}"
    if n_rows and int(view.min()) < 0:
        return "it has a negative view"
    return None


def _version_fault(version: object, what: str) -> str | None:
    if version is None or not str(version).isdecimal():
        return f"its version is {version!r}"
    if int(str(version)) > FORMAT_VERSION:
        raise UserError(f"{what} has format version {version}, this hsae reads up to {FORMAT_VERSION}: upgrade hsae")
    return None
