"""The values that rows of maps name, each object read once."""

import numpy as np
import torch

from hsae.pipeline.gallery.stored_maps import read_maps
from hsae.store.keys import maps_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import put_tensors


def test_every_row_gets_its_map_and_each_object_is_read_once(service, monkeypatch):
    rows = []
    values = {}
    for key in ("a" * 64, "b" * 64):
        tensors = {method: torch.rand(3, 2, 2).half() for method in ("chefer", "random")}
        stored = put_tensors(service.store, maps_key(key), tensors, {})
        for method, tensor in tensors.items():
            for place in (2, 0, None):
                named = {"maps_key": key, "maps_sha256": stored.sha256, "method": method, "map_index": place}
                rows.append(named)
                values[len(rows) - 1] = None if place is None else tensor[place].numpy()
    read = []
    get = ObjectStore.get
    monkeypatch.setattr(ObjectStore, "get", lambda self, key, **named: read.append(key) or get(self, key, **named))
    found = read_maps(service.store, rows)
    assert len(read) == 2
    for place, expected in values.items():
        if expected is None:
            assert found[place] is None
        else:
            np.testing.assert_array_equal(found[place], expected)
    assert read_maps(service.store, []) == []
