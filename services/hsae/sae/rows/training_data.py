"""What a training needs of its rows, in memory or streamed: the split, what is measured, the batch of every step."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from hsae.devices.memory import free_memory
from hsae.devices.uploads import uploaded
from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.rows.order import BatchOrder
from hsae.sae.rows.source import ChunkedRows, TrainingRows, check_rows
from hsae.sae.rows.split import RowSplit, split_rows
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.rows.streamed_split import StreamedSplit, split_streamed
from hsae.sae.rows.window_reader import WindowReader
from hsae.sae.rows.windows import WindowOrder
from hsae.sae.schedule import Schedule


class Batches(Protocol):
    """The batches of a training; each is a pure function of its step (counted from 0)."""

    def ready(self, step: int, seconds: float) -> bool:
        """Whether the batch of a step is in memory; waits for it for some seconds."""

    def batch(self, step: int) -> Float[Tensor, "batch d_model"]:
        """The rows of a step, as stored, on any device."""

    def done(self) -> None:
        """The step that was asked for last is made."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The rows of one training.

    Attributes:
        rows: all of them, to be read some at a time.
        split: which of them start the SAE and measure it; where they are streamed, samples of these.
        n_train_rows: how many are trained on.
        batches: the batches from a step on, given that step and the schedule.
    """

    rows: ChunkedRows
    split: RowSplit
    n_train_rows: int
    batches: Callable[[int, Schedule], AbstractContextManager[Batches]]


def open_training_data(
    config: SaeConfig, rows: TrainingRows | StreamedRows, on_device: Callable[[TrainingRows], TrainingRows]
) -> TrainingData:
    """Check the rows and split them.

    Args:
        config: how the SAE is trained.
        rows: in memory or streamed, as the config has it.
        on_device: where rows in memory shall lie during the training.

    Raises:
        UserError: rows in memory are no activations, or shall be streamed; or they cannot be split.
    """
    if isinstance(rows, StreamedRows):
        streamed = split_of_stream(config, rows)
        return TrainingData(rows, streamed.samples, streamed.n_train_rows, _windows(config, rows, streamed))
    if config.rows == "stream":
        raise UserError(
            "rows: stream reads activations from the object store, and these are in memory: leave `rows` out"
        )
    check_rows(rows)
    split = split_rows(rows, holdout_share=config.holdout_share, seed=config.seed)
    kept = on_device(rows)
    return TrainingData(kept, split, len(split.train), _in_memory(config, kept, split))


def on_device_if_it_fits(rows: TrainingRows, device: torch.device) -> TrainingRows:
    """The rows in the memory of a GPU if they take less than half of what may be taken, otherwise unchanged."""
    if device.type != "cuda":
        return rows
    n_bytes = rows.activations.numel() * rows.activations.element_size()
    if n_bytes > free_memory(device) // 2:
        return rows
    return TrainingRows(rows.activations.to(device), rows.image_index, rows.view)


def split_of_stream(config: SaeConfig, rows: StreamedRows) -> StreamedSplit:
    """The split of streamed rows by a config."""
    return split_streamed(rows.layout, holdout_share=config.holdout_share, seed=config.seed)


class _MemoryBatches:
    def __init__(self, rows: TrainingRows, split: RowSplit, order: BatchOrder) -> None:
        self._rows = rows
        self._split = split
        self._order = order

    def ready(self, step: int, seconds: float) -> bool:
        return True

    def batch(self, step: int) -> Float[Tensor, "batch d_model"]:
        activations = self._rows.activations
        return activations[uploaded(self._split.train[self._order.batch(step)], activations.device)]

    def done(self) -> None:
        pass


def _in_memory(
    config: SaeConfig, rows: TrainingRows, split: RowSplit
) -> Callable[[int, Schedule], AbstractContextManager[Batches]]:
    @contextmanager
    def batches(first_step: int, schedule: Schedule) -> Iterator[Batches]:
        del first_step
        yield _MemoryBatches(rows, split, BatchOrder(len(split.train), schedule.batch_size, config.seed))

    return batches


def _windows(
    config: SaeConfig, rows: StreamedRows, split: StreamedSplit
) -> Callable[[int, Schedule], AbstractContextManager[Batches]]:
    def batches(first_step: int, schedule: Schedule) -> AbstractContextManager[Batches]:
        order = WindowOrder(split.rows_per_shard, config.window_shards, schedule.batch_size, config.seed)
        steps = range(min(first_step, schedule.n_steps - 1), schedule.n_steps)
        if rows.seat is not None:
            return rows.seat.reading(rows, order, split.is_trained, steps)
        return WindowReader(rows, order, split.is_trained).reading(steps)

    return batches
