"""The reader against plain loops over all rows at once, for sets that hypothesis draws."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from torch import Tensor

import hsae.pipeline.stages.activation_reader as reader
from hsae.errors import UserError
from hsae.pipeline.stages.latent_activations import encode_images
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import check_rows
from hsae.sae.training.initialisation import untrained_sae
from hsae.store.activations import ActivationManifest, ActivationRows, ShardEntry, SkippedEntry
from hsae.store.objects import StoredObject

D_MODEL = 4


@dataclass
class StoredSet:
    """A published activation set in memory, its rows as one piece, and which shards were read."""

    manifest: ActivationManifest
    shards: dict[str, ActivationRows]
    whole: ActivationRows
    read: list[str]

    @property
    def context(self) -> SimpleNamespace:
        return SimpleNamespace(store=self, check=lambda: None, device=torch.device("cpu"))

    def plain_images(self) -> list[tuple[int, Tensor]]:
        """(image, its rows of the plain view) in the order of the rows."""
        found: dict[int, list[Tensor]] = {}
        for x, image, view in zip(self.whole.activations, self.whole.image_index, self.whole.view, strict=True):
            if view == 0:
                found.setdefault(int(image), []).append(x.float())
        return [(image, torch.stack(rows)) for image, rows in found.items()]


@pytest.fixture(autouse=True)
def _shards_from_memory(monkeypatch):
    def read_shard(stored: StoredSet, entry: ShardEntry) -> ActivationRows:
        stored.read.append(entry.object.key)
        return stored.shards[entry.object.key]

    monkeypatch.setattr(reader, "read_shard", read_shard)


@st.composite
def stored_sets(draw: st.DrawFn, *, n_plain: int = 0) -> StoredSet:
    """Sets of any tokens, views and dtype, with skipped images and shards without rows."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    n_images = sum(sizes)
    skipped = draw(st.sets(st.integers(0, n_images - 1), max_size=max(0, n_images - n_plain)))
    n_tokens, n_views, batch_size = (draw(st.integers(1, top)) for top in (3, 3, 3))
    dtype = draw(st.sampled_from(["float32", "bfloat16"]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    shards, entries, first = {}, [], 0
    for number, size in enumerate(sizes):
        listed = range(first, first + size)
        batches = [listed[start : start + batch_size] for start in range(0, size, batch_size)]
        origin = [
            (image, view)
            for batch in batches
            for view in range(n_views)
            for image in batch
            if image not in skipped
            for _ in range(n_tokens)
        ]
        image_index, view = torch.tensor(origin, dtype=torch.int32).reshape(-1, 2).T
        activations = torch.randn(len(origin), D_MODEL, generator=generator).to(getattr(torch, dtype))
        shards[str(number)] = ActivationRows(activations, image_index.contiguous(), view.short())
        entries.append(ShardEntry(StoredObject(str(number), "", 0), len(origin), first, first + size))
        first += size
    manifest = ActivationManifest(
        key="key",
        model="model",
        revision="revision",
        layer=0,
        tokens="patches" if n_tokens > 1 else "cls",
        dtype=dtype,
        d_model=D_MODEL,
        n_rows=sum(entry.n_rows for entry in entries),
        n_images=n_images,
        n_views=n_views,
        n_tokens=n_tokens,
        shards=tuple(entries),
        skipped=tuple(SkippedEntry(image, str(image), "damaged") for image in sorted(skipped)),
    )
    assert manifest.fault() is None
    columns = ("activations", "image_index", "view")
    whole = ActivationRows(*(torch.cat([getattr(shard, name) for shard in shards.values()]) for name in columns))
    return StoredSet(manifest, shards, whole, [])


@given(stored_sets())
def test_training_rows_are_all_rows_in_order(stored):
    rows = reader.read_training_rows(stored.context, stored.manifest)
    assert rows.activations.dtype == stored.whole.activations.dtype
    assert torch.equal(rows.activations, stored.whole.activations)
    assert torch.equal(rows.image_index, stored.whole.image_index)
    assert torch.equal(rows.view, stored.whole.view)
    assert stored.read == list(stored.shards)


@given(stored_sets(), st.data())
def test_rows_of_some_images_are_those_of_a_loop_over_all(stored, data):
    n_listed = stored.manifest.n_images
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=n_listed, max_size=n_listed)))
    kept = [row for row, image in enumerate(stored.whole.image_index.tolist()) if wanted[image]]
    in_memory = reader.read_training_rows(stored.context, stored.manifest, wanted)
    streamed = reader.StoredRows(stored.context, stored.manifest, wanted)
    assert torch.equal(in_memory.activations, stored.whole.activations[kept])
    for rows in (in_memory, streamed):
        assert torch.equal(rows.image_index, stored.whole.image_index[kept])
        assert torch.equal(rows.view, stored.whole.view[kept])
    if not kept:
        return
    positions = torch.tensor(sorted(data.draw(st.sets(st.integers(0, len(kept) - 1), min_size=1))))
    size = data.draw(st.integers(1, len(kept)))
    chunks = [list(rows.chunks(positions, size)) for rows in (in_memory, streamed)]
    assert len(chunks[0]) == len(chunks[1])
    assert all(torch.equal(one, other) for one, other in zip(*chunks, strict=True))


@given(stored_sets())
def test_plain_images_are_those_of_a_loop_over_the_rows(stored):
    parts = list(reader.iterate_plain_images(stored.context, stored.manifest))
    assert all(len(part.image_index) for part in parts)
    images = [int(image) for part in parts for image in part.image_index]
    activations = [x for part in parts for x in part.activations]
    means = [x for part in parts for x in part.means()]
    expected = stored.plain_images()
    assert images == [image for image, _ in expected]
    for found, mean, (_, rows) in zip(activations, means, expected, strict=True):
        assert torch.equal(found, rows)
        torch.testing.assert_close(mean, rows.mean(0), rtol=1e-6, atol=1e-6)


@given(stored_sets(), st.data())
def test_chunks_are_those_of_rows_in_memory(stored, data):
    n_rows = stored.manifest.n_rows
    chosen = data.draw(st.sets(st.integers(0, n_rows - 1), min_size=1)) if n_rows else set()
    if not chosen:
        return
    positions = torch.tensor(sorted(chosen))
    size = data.draw(st.integers(1, n_rows + 1))
    rows = reader.StoredRows(stored.context, stored.manifest)
    assert torch.equal(rows.image_index, stored.whole.image_index)
    assert torch.equal(rows.view, stored.whole.view)
    stored.read.clear()
    found = list(rows.chunks(positions, size))
    expected = list(reader.read_training_rows(stored.context, stored.manifest).chunks(positions, size))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.is_contiguous()
        assert torch.equal(one, other)


def _needs_two_images(stored: StoredSet) -> bool:
    return stored.manifest.n_images - len(stored.manifest.skipped) >= 4


@examples(30)
@given(stored_sets().filter(_needs_two_images), st.sampled_from([{}, {"kind": "topk", "k": 2}]))
def test_an_untrained_sae_from_stored_rows_has_the_bits_of_one_from_rows_in_memory(stored, kind):
    config = SaeConfig(expansion=2, **kind)
    streamed = untrained_sae(config, reader.StoredRows(stored.context, stored.manifest)).to_tensors()
    in_memory = untrained_sae(config, reader.read_training_rows(stored.context, stored.manifest)).to_tensors()
    assert all(torch.equal(streamed[name], in_memory[name]) for name in in_memory)


@given(stored_sets(), st.data())
def test_a_row_with_nan_is_named_as_in_memory(stored, data):
    if stored.manifest.n_rows == 0:
        return
    row = data.draw(st.integers(0, stored.manifest.n_rows - 1))
    starts = np.cumsum([0, *(len(shard.view) for shard in stored.shards.values())])
    of_shard = int(np.searchsorted(starts, row, side="right")) - 1
    stored.shards[str(of_shard)].activations[row - starts[of_shard], 1] = float("nan")
    with pytest.raises(UserError, match="NaN or infinity") as in_memory:
        check_rows(reader.read_training_rows(stored.context, stored.manifest))
    with pytest.raises(UserError) as streamed:
        reader.StoredRows(stored.context, stored.manifest)
    assert str(streamed.value) == str(in_memory.value)


@examples(30)
@given(stored_sets().filter(lambda stored: stored.manifest.n_rows > 0))
def test_latents_and_raw_activations_are_those_of_a_loop_over_the_images(stored):
    sae = SparseAutoencoder(SaeConfig(expansion=2), D_MODEL)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.randn(2 * D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(0)))
    (latents,), raw = encode_images([sae], stored.manifest, stored.context)
    expected = stored.plain_images()
    assert latents.images.tolist() == [image for image, _ in expected]
    with torch.inference_mode():
        z = torch.stack([sae.encode(rows).amax(0) for _, rows in expected])
    np.testing.assert_allclose(latents.z.toarray(), z.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(raw.mean, torch.stack([rows.mean(0) for _, rows in expected]).numpy(), atol=1e-6)
    if stored.manifest.n_tokens == 1:
        assert raw.pooled is None
        return
    pooled = torch.stack([torch.cat((rows.amax(0), -rows.amin(0))).clamp(min=0) for _, rows in expected])
    np.testing.assert_array_equal(raw.pooled.toarray(), pooled.numpy())


def test_a_job_may_stop_before_every_shard():
    entries = tuple(ShardEntry(StoredObject(str(number), "", 0), 0, number, number) for number in range(3))
    manifest = SimpleNamespace(shards=entries)
    stopped = iter([None, None, UserError("stop")])

    def check():
        if (reason := next(stopped)) is not None:
            raise reason

    empty = ActivationRows(torch.empty(0, D_MODEL), torch.empty(0, dtype=torch.int32), torch.empty(0).short())
    store = SimpleNamespace(shards={"0": empty, "1": empty}, read=[])
    with pytest.raises(UserError, match="stop"):
        list(reader.iterate_shards(SimpleNamespace(store=store, check=check), manifest))  # type: ignore[arg-type]
    assert store.read == ["0", "1"]
