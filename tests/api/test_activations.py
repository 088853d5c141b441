"""Stored activations by ranges of rows: the right rows, and no shard that is not needed."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import hsae
from hsae.store import activations as stored_activations
from hsae.store.activations import read_shard


@pytest.fixture
def acts(study) -> hsae.Activations:
    """Those of layer 3: shards of 40 images."""
    return study.activations(layer=3)


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """The first images of the shards that were read."""
    seen: list[int] = []

    def counted(store, entry):
        seen.append(entry.first_image)
        return read_shard(store, entry)

    monkeypatch.setattr("hsae.pipeline.stages.activation_reader.read_shard", counted)
    return seen


@pytest.fixture
def whole(acts) -> np.ndarray:
    """Every row, read shard by shard without the API."""
    shards = [stored_activations.read_shard(acts.reader.store, entry) for entry in acts.manifest.shards]
    return torch.cat([shard.activations for shard in shards]).numpy()


def test_nothing_is_read_before_it_is_asked_for(acts, read, whole):
    assert acts.shape == whole.shape == (len(acts), 192)
    assert (acts.layer, acts.tokens, acts.dtype) == (3, "cls", torch.float32)
    assert "layer 3" in repr(acts)
    part = acts[50:70]
    assert part.shape == (20, 192)
    assert read == []
    assert np.array_equal(part.numpy(), whole[50:70])
    assert read == [40]


@pytest.mark.parametrize(
    "rows", [slice(0, 5), slice(38, 42), slice(10, 130), slice(-7, None), slice(30, 10), slice(None)]
)
def test_ranges(acts, read, whole, rows):
    found = acts[rows]
    assert len(found) == len(whole[rows])
    assert np.array_equal(found.numpy(), whole[rows])
    first, stop, _ = rows.indices(len(whole))
    assert read == [start for start in range(0, len(whole), 40) if max(first, start) < min(stop, start + 40)]


def test_parts_of_parts_single_rows_and_origin(acts, whole):
    assert np.array_equal(acts[20:100][10:20].numpy(), whole[30:40])
    assert np.array_equal(acts[-1].numpy(), whole[-1:])
    assert torch.equal(acts[3].torch(), torch.from_numpy(whole[3:4]))
    assert acts[100:104].images().tolist() == [100, 101, 102, 103]
    assert acts[:3].rows().view.tolist() == [0, 0, 0]
    with pytest.raises(IndexError):
        acts[len(whole)]
    with pytest.raises(hsae.UserError, match="take a slice without a step"):
        acts[::2]
    assert np.array_equal(acts[np.int64(3)].numpy(), whole[3:4])
    for rows in ([1, 2], "x", 1.5, np.array([1, 2]), slice("a", None)):
        with pytest.raises(hsae.UserError, match="are neither a number nor a range: take acts"):
            acts[rows]


@pytest.mark.parametrize("n_rows", [1, 7, 40, 64, 10**6])
def test_blocks(acts, whole, n_rows):
    blocks = list(acts.blocks(n_rows))
    assert [len(block) for block in blocks[:-1]] == [n_rows] * (len(blocks) - 1)
    assert np.array_equal(torch.cat(blocks).numpy(), whole)
    assert sum(len(block) for block in acts[5:50]) == 45


def test_blocks_hold_one_shard_at_a_time(acts, read):
    blocks = acts.blocks(10)
    next(blocks)
    assert read == [0]
    for _ in range(4):
        next(blocks)
    assert read == [0, 40]


def test_what_cannot_be_asked_for(study, acts):
    with pytest.raises(hsae.UserError, match="study 1 has no analysis of layer 2: its layers are 1, 3"):
        study.activations(layer=2)
    with pytest.raises(hsae.UserError, match="a block of 0 rows holds none"):
        next(acts.blocks(0))


def test_the_lines_of_the_page_with_hsae(workspace, acts, monkeypatch):
    page = Path(__file__).parents[2] / "docs/activations.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
    monkeypatch.setattr(hsae, "open", lambda: workspace)
    found: dict[str, object] = {}
    exec(code, found)  # noqa: S102 - the page's own lines
    assert repr(found["acts"]) == repr(acts)
    assert acts.hook == "residual"
