"""The object store: checksummed objects, safetensors, activation sets (docs/storage-format.md)."""

from hsae.store.activations import (
    ActivationManifest,
    ActivationShard,
    ShardEntry,
    SkippedEntry,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import (
    ACTIVATIONS,
    ANALYSES,
    DATASETS,
    LOGS,
    SAES,
    artifact_prefix,
    checkpoints_prefix,
    class_sums_key,
    latents_key,
    manifest_key,
    shard_key,
    weights_key,
)
from hsae.store.objects import ListedObject, ObjectStore, StoredObject
from hsae.store.tensors import get_tensors, put_tensors

__all__ = [
    "ACTIVATIONS",
    "ANALYSES",
    "DATASETS",
    "LOGS",
    "SAES",
    "ActivationManifest",
    "ActivationShard",
    "ListedObject",
    "ObjectCorruptError",
    "ObjectMissingError",
    "ObjectStore",
    "ShardEntry",
    "SkippedEntry",
    "StoredObject",
    "artifact_prefix",
    "checkpoints_prefix",
    "class_sums_key",
    "get_tensors",
    "latents_key",
    "manifest_key",
    "put_tensors",
    "read_manifest",
    "read_shard",
    "shard_key",
    "weights_key",
    "write_manifest",
    "write_shard",
]
