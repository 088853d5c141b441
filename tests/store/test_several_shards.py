"""Shards of several layers that are stored at once: the same objects, and an error that stops the rest."""

import threading
from typing import Any

import pytest
import torch

from hsae.store.activations import ActivationManifest, ActivationRows, read_shard, write_shard, write_shards
from hsae.store.keys import shard_key
from hsae.store.objects import ObjectStore

_N_LAYERS = 9
_CONTENT: dict[str, Any] = {
    "key": "0a", "model": "m", "revision": "r", "layer": 1, "tokens": "cls", "dtype": "float32", "d_model": 3,
    "n_rows": 0, "n_images": 0, "n_views": 1, "n_tokens": 1, "shards": (), "skipped": (),
}  # fmt: skip


def shards() -> dict[str, ActivationRows]:
    image = torch.arange(4, dtype=torch.int32)
    return {
        shard_key(f"{layer:08x}", 0): ActivationRows(torch.full((4, 3), float(layer)), image, image.to(torch.int16))
        for layer in range(_N_LAYERS)
    }


def test_they_are_what_one_after_the_other_stores(store: ObjectStore) -> None:
    """Four wait for one another, so four are on their way at once."""
    meeting = threading.Barrier(4, timeout=120)
    n_checked = threading.Semaphore(4)

    def check() -> None:
        if n_checked.acquire(blocking=False):
            meeting.wait()

    given = shards()
    entries = write_shards(store, given, first_image=0, end_image=4, check=check)
    expected = [write_shard(store, key, shard, first_image=0, end_image=4) for key, shard in given.items()]
    assert entries == expected  # keys, checksums and order
    for entry, shard in zip(entries, given.values(), strict=True):
        assert torch.equal(read_shard(store, entry).activations, shard.activations)


def test_after_an_error_none_is_begun(store: ObjectStore) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def check() -> None:
        with lock:
            begun.append(len(begun))
            if len(begun) >= 2:
                raise OSError("no longer this worker's")

    with pytest.raises(OSError, match="no longer this worker's"):
        write_shards(store, shards(), first_image=0, end_image=4, check=check)
    assert len(begun) < _N_LAYERS
    with pytest.raises(ValueError, match="outside"):
        write_shards(store, shards(), first_image=0, end_image=2)


def test_the_precision_is_in_the_manifest_where_it_is_not_float32() -> None:
    plain, rounded = ActivationManifest(**_CONTENT), ActivationManifest(**_CONTENT, precision="tf32")
    assert "precision" not in plain.to_json()
    assert ActivationManifest.from_json(plain.to_json()) == plain
    assert ActivationManifest.from_json(rounded.to_json()) == rounded
    assert ActivationManifest.from_json(rounded.to_json()).precision == "tf32"


def test_how_images_were_decoded_is_in_the_manifest_where_it_is_not_exactly() -> None:
    plain, scaled = ActivationManifest(**_CONTENT), ActivationManifest(**_CONTENT, decode="scaled")
    assert "decode" not in plain.to_json()
    assert (ActivationManifest.from_json(plain.to_json()).decode, scaled.decode) == ("exact", "scaled")
    assert ActivationManifest.from_json(scaled.to_json()) == scaled


def test_the_hook_point_is_in_the_manifest_where_it_is_not_the_stream() -> None:
    content = _CONTENT | {"tokens": "registers", "n_tokens": 4}
    stream, mlp = ActivationManifest(**content), ActivationManifest(**content, hook="mlp")
    assert "hook" not in stream.to_json()
    assert [ActivationManifest.from_json(one.to_json()) for one in (stream, mlp)] == [stream, mlp]
