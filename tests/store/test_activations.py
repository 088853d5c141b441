import hashlib
import io
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from minio import Minio
from tests.examples import examples

from hsae.errors import UserError
from hsae.store.activations import (
    ActivationManifest,
    ActivationRows,
    ShardEntry,
    SkippedEntry,
    read_manifest,
    read_shard,
    write_manifest,
    write_shard,
)
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import manifest_key, shard_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors, put_tensors

from .conftest import S3Server


def random_shard(n_rows: int, d_model: int, dtype: torch.dtype, first: int = 0, end: int = 4) -> ActivationRows:
    generator = torch.Generator().manual_seed(n_rows * 100 + d_model)
    return ActivationRows(
        torch.randn(n_rows, d_model, generator=generator).to(dtype),
        torch.randint(first, max(end, first + 1), (n_rows,), generator=generator, dtype=torch.int32),
        torch.randint(0, 3, (n_rows,), generator=generator, dtype=torch.int16),
    )


def overwrite(server: S3Server, store: ObjectStore, key: str, content: bytes) -> None:
    """Puts other bytes under the key, as a failing disk or another program would."""
    client = Minio(server.endpoint, server.access_key, server.secret_key, secure=False)
    client.put_object(store.bucket, key, io.BytesIO(content), len(content))


def manifest(*shards: ShardEntry, **changes: object) -> ActivationManifest:
    content = {
        "key": "0123abcd",
        "model": "facebook/dinov2-base",
        "revision": "f" * 40,
        "layer": 8,
        "tokens": "cls",
        "dtype": "bfloat16",
        "d_model": 5,
        "n_rows": sum(each.n_rows for each in shards),
        "n_images": shards[-1].end_image if shards else 0,
        "n_views": 1,
        "n_tokens": 1,
        "shards": shards,
        "skipped": (),
    }
    return ActivationManifest.model_validate(content | changes)


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_rows=st.integers(0, 40),
    d_model=st.integers(1, 33),
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    first=st.integers(0, 1000),
    n_images=st.integers(1, 9),
)
def test_a_shard_comes_back(store: ObjectStore, n_rows, d_model, dtype, first, n_images) -> None:
    shard = random_shard(n_rows, d_model, dtype, first, first + n_images)
    entry = write_shard(store, shard_key("rt", 7), shard, first_image=first, end_image=first + n_images)
    assert entry.object.key == f"activations/rt/shard-00007-{entry.object.sha256[:16]}.safetensors"
    assert (entry.n_rows, entry.first_image, entry.end_image) == (n_rows, first, first + n_images)
    again = read_shard(store, entry)
    for name in ("activations", "image_index", "view"):
        assert getattr(again, name).dtype == getattr(shard, name).dtype
        assert getattr(again, name).shape == getattr(shard, name).shape
        assert torch.equal(getattr(again, name), getattr(shard, name))


def test_nan_is_not_judged_here(store: ObjectStore) -> None:
    shard = random_shard(2, 3, torch.float32)
    shard.activations[0, 0] = torch.nan
    entry = write_shard(store, shard_key("nan", 0), shard, first_image=0, end_image=4)
    assert torch.isnan(read_shard(store, entry).activations[0, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activations": torch.zeros(3, 2, dtype=torch.float16)}, "bfloat16 or float32"),
        ({"activations": torch.zeros(6)}, "bfloat16 or float32"),
        ({"image_index": torch.zeros(3, dtype=torch.int64)}, "image_index is torch.int64"),
        ({"image_index": torch.zeros(2, dtype=torch.int32)}, "image_index is torch.int32"),
        ({"image_index": torch.full((3,), 4, dtype=torch.int32)}, "images outside 0 to 3"),
        ({"image_index": torch.full((3,), -1, dtype=torch.int32)}, "images outside 0 to 3"),
        ({"view": torch.zeros(3, dtype=torch.int32)}, "view is torch.int32"),
        ({"view": torch.full((3,), -1, dtype=torch.int16)}, "negative view"),
    ],
)
def test_what_is_no_shard_is_neither_written_nor_read(store: ObjectStore, changes, message: str) -> None:
    shard = replace(random_shard(3, 2, torch.float32), **changes)
    key = shard_key("bad", 0)
    with pytest.raises(ValueError, match=message):
        write_shard(store, key, shard, first_image=0, end_image=4)
    tensors = {name: getattr(shard, name) for name in ("activations", "image_index", "view")}
    stored = put_tensors(store, key, tensors, {"format": "hsae.activation-shard", "version": "1"})
    with pytest.raises(ObjectCorruptError, match=message):
        read_shard(store, ShardEntry(stored, 3, 0, 4))


def test_a_flipped_byte_a_cut_object_and_a_missing_one_are_named(store: ObjectStore, s3_server: S3Server) -> None:
    key = shard_key("damage", 3)
    entry = write_shard(store, key, random_shard(50, 5, torch.bfloat16), first_image=0, end_image=4)
    key = entry.object.key
    content = bytearray(store.get(key))
    for position in (0, 20, len(content) // 2, len(content) - 1):
        flipped = content.copy()
        flipped[position] ^= 1
        overwrite(s3_server, store, key, bytes(flipped))
        with pytest.raises(ObjectCorruptError, match=f"{key} in bucket {store.bucket} is damaged"):
            read_shard(store, entry)
    overwrite(s3_server, store, key, bytes(content[:-7]))
    with pytest.raises(ObjectCorruptError, match=f"object {key} .*submit again to make it anew"):
        read_shard(store, entry)
    store.delete(key)
    with pytest.raises(ObjectMissingError, match=f"object {key} is missing from bucket {store.bucket}"):
        read_shard(store, entry)


def test_an_entry_and_its_shard_must_agree(store: ObjectStore) -> None:
    key = shard_key("agree", 0)
    entry = write_shard(store, key, random_shard(9, 5, torch.bfloat16), first_image=0, end_image=4)
    with pytest.raises(ObjectCorruptError, match="it has 9 rows, the manifest says 8"):
        read_shard(store, replace(entry, n_rows=8))
    with pytest.raises(ObjectCorruptError, match="images outside 0 to 1"):
        read_shard(store, replace(entry, end_image=2))


def test_versions(store: ObjectStore) -> None:
    key = shard_key("versions", 0)
    entry = write_shard(store, key, random_shard(2, 5, torch.float32), first_image=0, end_image=4)
    tensors, metadata = get_tensors(store, entry.object.key, sha256=None)
    assert metadata == {
        "format": "hsae.activation-shard",
        "version": "1",
        "first_image": "0",
        "end_image": "4",
    }
    for change, error, message in (
        ({"version": "2"}, UserError, "format version 2.*upgrade hsae"),
        ({"version": "x"}, ObjectCorruptError, "its version is 'x'"),
        ({"format": "other"}, ObjectCorruptError, "no activation shard"),
    ):
        changed = put_tensors(store, key, tensors, metadata | change)
        with pytest.raises(error, match=message):
            read_shard(store, replace(entry, object=changed))


@pytest.fixture(scope="module")
def entries(store: ObjectStore) -> list[ShardEntry]:
    first = write_shard(
        store, shard_key("0123abcd", 0), random_shard(3, 5, torch.bfloat16, 0, 3), first_image=0, end_image=3
    )
    empty = ActivationRows(
        torch.zeros(0, 5, dtype=torch.bfloat16),
        torch.zeros(0, dtype=torch.int32),
        torch.zeros(0, dtype=torch.int16),
    )
    second = write_shard(store, shard_key("0123abcd", 1), empty, first_image=3, end_image=4)
    return [first, second]


def test_a_manifest_comes_back(store: ObjectStore, entries: list[ShardEntry]) -> None:
    written = manifest(*entries, skipped=(SkippedEntry(3, "dog/ü.png", "truncated"),))
    with pytest.raises(ObjectMissingError, match=r"activations/0123abcd/manifest-aaaaaaaaaaaaaaaa\.json"):
        read_manifest(store, "0123abcd", sha256="a" * 64)
    stored = write_manifest(store, written)
    assert stored.key == manifest_key("0123abcd", stored.sha256)
    assert stored.key == f"activations/0123abcd/manifest-{stored.sha256[:16]}.json"
    assert read_manifest(store, "0123abcd", sha256=stored.sha256) == written
    assert ActivationManifest.from_json(written.to_json()) == written
    assert written.to_json().startswith('{"d_model":5,"dtype":"bfloat16","format":"hsae.activation-manifest"')
    assert read_shard(store, read_manifest(store, "0123abcd", sha256=stored.sha256).shards[1]).activations.shape == (
        0,
        5,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_rows": 4}, "do not sum to 4"),
        ({"n_images": 5}, "cover 4 of 5 images"),
        ({"n_views": 2}, "make 6 rows, not 3"),
        ({"skipped": ()}, "make 4 rows, not 3"),
    ],
)
def test_a_manifest_that_contradicts_itself(store: ObjectStore, entries, changes, message: str) -> None:
    wrong = manifest(*entries, **({"skipped": (SkippedEntry(3, "a.png", "empty"),)} | changes))
    with pytest.raises(ValueError, match=message):
        write_manifest(store, wrong)
    with pytest.raises(ValueError, match=message):
        ActivationManifest.from_json(wrong.to_json())


def test_a_gap_between_shards(entries: list[ShardEntry]) -> None:
    assert re.search(
        r"shard-00001-[0-9a-f]{16}\.safetensors does not start at image 3",
        str(manifest(entries[0], replace(entries[1], first_image=4, end_image=5)).fault()),
    )


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (lambda text: text[:-20], ObjectCorruptError, "is damaged"),
        (
            lambda text: text.replace('"version":1', '"version":2'),
            UserError,
            "format version 2.*upgrade hsae",
        ),
        (lambda text: text.replace('"version":1', '"version":[]'), ObjectCorruptError, "its version is"),
        (lambda text: text.replace("hsae.activation", "saev"), ObjectCorruptError, "no activation manifest"),
        (lambda text: text.replace('"layer":8', '"layer":"x"'), ObjectCorruptError, "layer: "),
        (lambda text: text.replace('"layer":8', '"layer":8,"odd":1'), ObjectCorruptError, "odd: "),
        (lambda text: text.replace("0123abcd", "0123abce"), ObjectCorruptError, "the manifest of 0123abce"),
        (lambda text: "[]", ObjectCorruptError, "no activation manifest"),
    ],
)
def test_what_is_no_manifest(store: ObjectStore, s3_server: S3Server, entries, edit, error, message: str) -> None:
    text = manifest(*entries, skipped=(SkippedEntry(3, "a.png", "empty"),)).to_json()
    content = edit(text).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    overwrite(s3_server, store, manifest_key("0123abcd", sha256), content)
    with pytest.raises(error, match=message) as raised:
        read_manifest(store, "0123abcd", sha256=sha256)
    assert "\n" not in str(raised.value)
