"""Tensors as NumPy arrays, without torch."""

import numpy as np
import pytest
import torch

from hsae.store.arrays import get_arrays
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.tensors import put_tensors


def test_arrays_are_the_tensors(service):
    tensors = {"half": torch.rand(2, 3).half(), "ints": torch.arange(4), "empty": torch.empty(0, 2)}
    stored = put_tensors(service.store, "maps/a.safetensors", tensors, {"analysis": "b"})
    found = get_arrays(service.store, stored.key, sha256=stored.sha256)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())
        assert found[name].dtype == tensor.numpy().dtype


def test_what_is_no_safetensors_file_or_gone_or_another_is_said(service):
    stored = service.store.put("maps/b.safetensors", b"not one")
    with pytest.raises(ObjectCorruptError, match="no safetensors file"):
        get_arrays(service.store, stored.key, sha256=stored.sha256)
    with pytest.raises(ObjectCorruptError):
        get_arrays(service.store, stored.key, sha256="0" * 64)
    with pytest.raises(ObjectMissingError):
        get_arrays(service.store, "maps/c.safetensors", sha256=None)
