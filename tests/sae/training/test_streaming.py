"""Trainings whose rows are streamed: the same bits however they are stored, interrupted or shared; bounded memory."""

import dataclasses
import threading

import pytest
import torch
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors
from tests.sae.stored_shards import ShardsInMemory
from tests.sae.training.test_checkpoint import train_saving_after

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import CheckpointSaving, train

SIZES = [20, 30, 10, 40, 25, 15, 10]


def streamed(config: SaeConfig, window_shards: int = 2) -> SaeConfig:
    return SaeConfig.parse({**config.model_dump(), "rows": "stream", "window_shards": window_shards})


@pytest.fixture
def shards(planted) -> ShardsInMemory:
    return ShardsInMemory.of(planted(300, 8, 12, 2)[0], SIZES, n_views=2)


@pytest.mark.parametrize("kind", SHORT)
def test_interrupted_in_the_middle_of_a_window_and_resumed_equals_straight(kind, shards):
    config = streamed(SHORT[kind])  # 8 steps a pass, of windows of 2 or 3 batches
    straight, _, reports = train_saving_after(config, StreamedRows(shards), set())
    for step in (8, 13) if kind == "topk" else (13,):
        result, saved, before = train_saving_after(config, StreamedRows(shards), {step}, stop_at=step + 2)
        assert result is None
        assert before == reports[: step + 2]
        resumed, _, rest = train_saving_after(config, StreamedRows(shards), set(), checkpoint=saved[step])
        assert rest == reports[step:]
        assert resumed.metrics == straight.metrics
        assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())


def test_the_bits_do_not_depend_on_the_order_in_which_a_shard_holds_its_images(shards):
    config = streamed(SHORT["topk"])
    turned = []
    for shard in shards.shards:
        groups = torch.arange(len(shard.view)).flip(0)
        turned.append(TrainingRows(*(getattr(shard, field.name)[groups] for field in dataclasses.fields(shard))))
    other = dataclasses.replace(shards, shards=turned)
    first, second = (train(config, StreamedRows(stored), device=CPU) for stored in (shards, other))
    assert_same_tensors(first.sae.to_tensors(), second.sae.to_tensors())
    assert first.metrics == second.metrics


def test_it_learns_as_well_as_in_memory(shards):
    config = SaeConfig(kind="topk", k=2, expansion=4, n_steps=300, batch_size=32, learning_rate=1e-2)
    in_memory = train(config, shards.in_memory(), device=CPU).metrics
    metrics = train(streamed(config), StreamedRows(shards), device=CPU).metrics
    counts = ("n_train_rows", "n_train_rows_measured", "n_holdout_rows", "batch_size", "n_steps")
    assert [getattr(metrics, name) for name in counts] == [getattr(in_memory, name) for name in counts]
    assert max(metrics.fvu, in_memory.fvu) < 0.2
    assert metrics.fvu == pytest.approx(in_memory.fvu, abs=0.08)


def test_the_untrained_sae_is_that_of_the_first_step(shards):
    config = streamed(SHORT["topk"])
    saved: list[Checkpoint] = []
    slow = config.model_copy(update={"learning_rate": 1e-30})
    train(slow, StreamedRows(shards), device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
    start = untrained_sae(slow, StreamedRows(shards)).to_tensors()
    for name, tensor in start.items():
        torch.testing.assert_close(saved[0].tensors[f"sae.{name}"], tensor)


def test_rows_in_memory_cannot_be_streamed(rows):
    with pytest.raises(UserError, match="these are in memory: leave `rows` out"):
        train(streamed(SHORT["topk"]), rows, device=CPU)


class _Slow(ShardsInMemory):
    """Reads `n_free` shards, and no more until it is let go."""

    gate: threading.Event
    n_free: int

    def read(self, shard: int) -> TrainingRows:
        if len(self.read_shards) >= self.n_free:
            self.gate.wait()
        return super().read(shard)


def test_a_training_that_waits_for_rows_saves_its_state_and_can_be_stopped(shards):
    slow = _Slow(shards.layout, shards.shards)
    slow.gate, slow.n_free = threading.Event(), 2 * len(SIZES) + 4  # the start reads all twice; two windows
    saved: list[Checkpoint] = []
    config = streamed(SHORT["topk"])

    class StoppedError(Exception):
        pass

    def stop() -> None:
        slow.gate.set()
        raise StoppedError

    due = CheckpointSaving(lambda: len(saved) < 1 and len(slow.read_shards) >= slow.n_free, saved.append, waiting=stop)
    with pytest.raises(StoppedError):
        train(config, StreamedRows(slow), device=CPU, saving=due)
    (checkpoint,) = saved
    straight = train(config, StreamedRows(shards), device=CPU)
    resumed = train(config, StreamedRows(shards), device=CPU, checkpoint=checkpoint)
    assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())


def test_settings():
    assert "rows" not in SaeConfig().model_dump()
    assert "window_shards" not in streamed(SaeConfig(), window_shards=16).model_dump()
    config = streamed(SaeConfig(), window_shards=4)
    assert SaeConfig.parse(config.model_dump()) == config
    with pytest.raises(UserError, match="window_shards applies to streamed rows only"):
        SaeConfig(window_shards=4)
    with pytest.raises(UserError, match="window_shards 0 is out of range"):
        SaeConfig(rows="stream", window_shards=0)
    with pytest.raises(UserError, match="rows 'disk' is not valid"):
        SaeConfig(rows="disk")
