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
from hsae.store.keys import ACTIVATIONS, ANALYSES, DATASETS, SAES, artifact_prefix, manifest_key, shard_key
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.tensors import get_tensors, put_tensors

__all__ = [
    "ACTIVATIONS",
    "ANALYSES",
    "DATASETS",
    "SAES",
    "ActivationManifest",
    "ActivationShard",
    "ObjectCorruptError",
    "ObjectMissingError",
    "ObjectStore",
    "ShardEntry",
    "SkippedEntry",
    "StoredObject",
    "artifact_prefix",
    "get_tensors",
    "manifest_key",
    "put_tensors",
    "read_manifest",
    "read_shard",
    "shard_key",
    "write_manifest",
    "write_shard",
]
