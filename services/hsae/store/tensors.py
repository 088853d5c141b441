"""Named tensors and text metadata as one safetensors object; equal content gives equal bytes."""

import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hsae.store.faults import ObjectCorruptError
from hsae.store.objects import ObjectStore, StoredObject
from hsae.store.reading import Readable

_LENGTH_BYTES = 8  # the header's length, little-endian, opens the file
_METADATA = "__metadata__"


def put_tensors(
    store: ObjectStore, key: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> StoredObject:
    """Store `tensors` (any device, any stride) and `metadata` as the safetensors object `key`."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return store.put(key, serialise(on_cpu, dict(metadata)))


def get_tensors(store: Readable, key: str, *, sha256: str | None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors (on the CPU) and the metadata of the safetensors object `key`.

    Raises:
        ObjectCorruptError: the object is no safetensors file.
        UserError: as for `ObjectStore.get`.
    """
    data = store.get(key, sha256=sha256)
    try:
        tensors = load(data)
        metadata = _header(data).get(_METADATA) or {}
    except (SafetensorError, ValueError) as error:
        raise ObjectCorruptError(key, store.bucket, f"no safetensors file: {error}") from error
    return tensors, metadata


def serialise(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors object of contiguous tensors on the CPU."""
    # safetensors writes the metadata in the random order of a hash map, so bytes and checksum would differ between
    # calls. Offsets count from the end of the header, so a sorted header can replace it.
    data = save(tensors)
    tensor_entries = {name: entry for name, entry in _header(data).items() if name != _METADATA}
    header = {_METADATA: dict(sorted(metadata.items())), **tensor_entries}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    payload = memoryview(data)[_LENGTH_BYTES + _header_length(data) :]
    return b"".join((len(text).to_bytes(_LENGTH_BYTES, "little"), text, payload))


def _header_length(data: bytes) -> int:
    return int.from_bytes(data[:_LENGTH_BYTES], "little")


def _header(data: bytes) -> dict[str, dict[str, str]]:
    header: dict[str, dict[str, str]] = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + _header_length(data)])
    return header
