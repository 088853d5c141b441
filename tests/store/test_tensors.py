import io
import json

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from minio import Minio
from safetensors.torch import load
from tests.examples import examples

from hsae.store.faults import ObjectCorruptError
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors, put_tensors

from .conftest import S3Server

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int16, torch.uint8, torch.bool]
SHAPES = st.lists(st.integers(0, 5), min_size=0, max_size=3)


def random_tensor(shape: list[int], dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 100, shape, generator=generator).to(dtype)


@examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.dictionaries(st.sampled_from("abcde"), st.tuples(SHAPES, st.sampled_from(DTYPES)), max_size=4),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=4),
    seed=st.integers(0, 1000),
)
def test_tensors_and_metadata_come_back(store: ObjectStore, layout, metadata, seed: int) -> None:
    tensors = {name: random_tensor(shape, dtype, seed) for name, (shape, dtype) in layout.items()}
    stored = put_tensors(store, "tensors", tensors, metadata)
    again, metadata_again = get_tensors(store, "tensors", sha256=stored.sha256)
    assert metadata_again == metadata
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype
        assert again[name].shape == tensor.shape
        assert torch.equal(again[name], tensor)
    assert put_tensors(store, "tensors", dict(reversed(tensors.items())), metadata) == stored


def test_strided_tensors(store: ObjectStore) -> None:
    matrix = torch.arange(12.0).reshape(3, 4)
    put_tensors(store, "strided", {"transposed": matrix.T, "column": matrix[:, 1]}, {})
    tensors, _ = get_tensors(store, "strided", sha256=None)
    assert torch.equal(tensors["transposed"], matrix.T)
    assert torch.equal(tensors["column"], matrix[:, 1])


def test_the_bytes_are_a_standard_file_and_always_the_same(store: ObjectStore) -> None:
    tensors = {"b": torch.ones(3, dtype=torch.int16), "a": torch.zeros(2, 2, dtype=torch.bfloat16)}
    outputs = set()
    for _ in range(10):
        put_tensors(store, "standard", tensors, {name: name * 2 for name in "qwertyuiop"})
        outputs.add(store.get("standard"))
    assert len(outputs) == 1
    data = outputs.pop()
    assert torch.equal(load(data)["b"], torch.ones(3, dtype=torch.int16))
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert list(header) == ["__metadata__", "a", "b"]
    assert list(header["__metadata__"]) == sorted("qwertyuiop")


def test_a_tensor_file_without_metadata_is_read(store: ObjectStore) -> None:
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    store.put("bare", len(header).to_bytes(8, "little") + header + bytes(4))
    tensors, metadata = get_tensors(store, "bare", sha256=None)
    assert tensors["x"].tolist() == [0.0]
    assert metadata == {}


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, b"\x02" + bytes(7) + b"{}" + b"more"])
def test_what_is_no_tensor_file(store: ObjectStore, s3_server: S3Server, content: bytes) -> None:
    client = Minio(s3_server.endpoint, s3_server.access_key, s3_server.secret_key, secure=False)
    client.put_object(store.bucket, "odd", io.BytesIO(content), len(content))
    with pytest.raises(ObjectCorruptError, match="no safetensors file"):
        get_tensors(store, "odd", sha256=None)
