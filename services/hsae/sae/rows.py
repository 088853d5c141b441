"""Activation rows as the trainer sees them: checked once, split by image, drawn in a reproducible order."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import n_held_out

_CHUNK_ROWS = 65_536
# Philox keys are (seed, purpose): the streams of different purposes never meet.
_HOLDOUT_STREAM = 2**63
_SUBSAMPLE_STREAM = 2**63 + 1
_MEASURED_STREAM = 2**63 + 2


class RowSource(Protocol):
    """Rows that can be read more than once, some at a time; they need not all be in memory."""

    @property
    def d_model(self) -> int:
        """Length of a row."""

    @property
    def image_index(self) -> Int[Tensor, "n_rows"]:
        """The image of each row."""

    @property
    def view(self) -> Int[Tensor, "n_rows"]:
        """0 = the plain image, above 0 = an augmented view of it."""

    def chunks(self, positions: Int[Tensor, "n"], n_rows: int) -> Iterator[Float32[Tensor, "chunk d_model"]]:
        """The rows at ascending positions as float32 on the CPU, `n_rows` at a time; the last chunk has the rest."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Activations of one layer with the origin of each row, all in memory and on one device.

    Training draws every row in every epoch in a random order, so it holds them all.

    Attributes:
        activations: bfloat16, float16 or float32 [n_rows, d_model].
        image_index: integers [n_rows], the image of each row.
        view: integers [n_rows]; 0 = the plain image, above 0 = an augmented view of it (trained on, never scored).
    """

    activations: Float[Tensor, "n_rows d_model"]
    image_index: Int[Tensor, "n_rows"]
    view: Int[Tensor, "n_rows"]

    @property
    def d_model(self) -> int:
        """Length of a row."""
        return self.activations.shape[1]

    def chunks(self, positions: Int[Tensor, "n"], n_rows: int) -> Iterator[Float32[Tensor, "chunk d_model"]]:
        """See `RowSource.chunks`."""
        for part in torch.split(positions, n_rows):
            yield take_rows(self, part, torch.device("cpu"))


@dataclass(frozen=True, slots=True)
class RowSplit:
    """Which rows train and which rows measure, as ascending row numbers (int64, CPU).

    Attributes:
        train: rows of the images that are not held out, every view.
        holdout: rows of view 0 of the held-out images; empty if none is held out.
        measured_train: rows of view 0 of the other images, drawn with the seed: as many as in `holdout`, or all if
            there are fewer or nothing is held out.
        plain: all rows of view 0.
    """

    train: Int[Tensor, "n_train"]
    holdout: Int[Tensor, "n_evaluation"]
    measured_train: Int[Tensor, "n_evaluation"]
    plain: Int[Tensor, "n_plain"]


def check_rows(rows: TrainingRows) -> None:
    """Check shapes, types and finite values.

    Raises:
        UserError: names the first bad row and its image.
    """
    activations = rows.activations
    if activations.ndim != 2 or activations.shape[1] == 0 or not activations.is_floating_point():
        raise UserError(
            f"activations must be a floating-point matrix [n_rows, d_model], got {activations.dtype} "
            f"{list(activations.shape)}: extract them again"
        )
    n_rows = activations.shape[0]
    for name, column in (("image_index", rows.image_index), ("view", rows.view)):
        if column.ndim != 1 or column.shape[0] != n_rows or column.is_floating_point():
            raise UserError(
                f"{name} must hold one integer for each of the {n_rows} activation rows, got {column.dtype} "
                f"{list(column.shape)}: extract the activations again"
            )
    check_finite(rows)


def check_finite(rows: TrainingRows, *, first_row: int = 0) -> None:
    """Check that the activations (bfloat16, float16 or float32) are finite.

    Args:
        rows: some rows.
        first_row: the number of the first of them, for the message.

    Raises:
        UserError: names the first row with NaN or infinity.
    """
    for start in range(0, rows.activations.shape[0], _CHUNK_ROWS):
        finite = torch.isfinite(rows.activations[start : start + _CHUNK_ROWS]).all(dim=1)
        if not bool(finite.all()):
            row = start + int((~finite).to(torch.uint8).argmax())
            raise UserError(
                f"activation row {first_row + row} (image {int(rows.image_index[row])}, view {int(rows.view[row])})"
                " holds NaN or infinity: extract the activations in float32, or leave that image out"
            )


def split_rows(rows: RowSource, *, holdout_share: float, seed: int) -> RowSplit:
    """Hold out whole images: the first `holdout_share` of a seeded permutation of the sorted image numbers.

    At least one image is held out unless the share is 0.

    Raises:
        UserError: fewer than two rows are left to train on, or no plain view is left to measure on.
    """
    image_index = rows.image_index.to("cpu", torch.int64)
    is_plain = rows.view.to("cpu") == 0
    images = torch.unique(image_index)
    n_images = images.shape[0]
    n_holdout_images = n_held_out(n_images, holdout_share)
    order = torch.from_numpy(_generator(seed, _HOLDOUT_STREAM).permutation(n_images))
    held_out = _is_in(image_index, images[order[:n_holdout_images]])
    train = torch.nonzero(~held_out).flatten()
    if train.shape[0] < 2:
        raise UserError(
            f"{train.shape[0]} of {image_index.shape[0]} activation rows are left to train on: "
            "an SAE needs 2 at least, give more images or holdout_share 0"
        )
    holdout = torch.nonzero(is_plain & held_out).flatten()
    measured_train = torch.nonzero(is_plain & ~held_out).flatten()
    of_images = ({"held-out": holdout} if n_holdout_images else {}) | {"training": measured_train}
    for whose, measured in of_images.items():
        if measured.shape[0] == 0:
            raise UserError(
                f"no plain row (view 0) of the {whose} images is left to measure on: extract the plain images too"
            )
    if n_holdout_images:
        measured_train = _drawn(measured_train, holdout.shape[0], seed, _MEASURED_STREAM)
    return RowSplit(train, holdout, measured_train, plain=torch.nonzero(is_plain).flatten())


class BatchOrder:
    """The batches of every pass over the training rows.

    The order of a pass is a pure function of (seed, pass), so no state is saved or restored. A pass drops the
    `n_rows % batch_size` rows at the end of its order, which are other rows in every pass.
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.batches_per_epoch = n_rows // batch_size
        self._n_rows = n_rows
        self._seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Int[Tensor, "batch"]:
        """Positions among the training rows of the batch of a step (counted from 0), int64 on the CPU."""
        epoch, position = divmod(step, self.batches_per_epoch)
        if epoch != self._epoch:
            self._order = torch.from_numpy(_generator(self._seed, epoch).permutation(self._n_rows))
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]


def take_rows(rows: TrainingRows, positions: Int[Tensor, "n"], device: torch.device) -> Float[Tensor, "n d_model"]:
    """The activations of some rows as float32 on a device."""
    source = rows.activations
    return source[positions.to(source.device)].to(device, torch.float32)


def subsample(positions: Int[Tensor, "n"], limit: int, seed: int) -> Int[Tensor, "m"]:
    """At most `limit` of the positions, ascending, the same for the same seed."""
    return _drawn(positions, limit, seed, _SUBSAMPLE_STREAM)


def _drawn(positions: Int[Tensor, "n"], limit: int, seed: int, stream: int) -> Int[Tensor, "m"]:
    n = positions.shape[0]
    if n <= limit:
        return positions
    chosen = np.sort(_generator(seed, stream).permutation(n)[:limit])
    return positions[torch.from_numpy(chosen)]


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64)))


def _is_in(values: Int[Tensor, "n"], chosen: Int[Tensor, "m"]) -> Bool[Tensor, "n"]:
    return torch.isin(values, chosen)
