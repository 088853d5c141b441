"""Activation rows as the trainer reads them, and the checks that they pass once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from hsae.errors import UserError

_CHUNK_ROWS = 65_536


class ChunkedRows(Protocol):
    """Rows that can be read more than once, some at a time; they need not all be in memory."""

    @property
    def d_model(self) -> int:
        """Length of a row."""

    def chunks(self, positions: Int[Tensor, "n"], n_rows: int) -> Iterator[Float32[Tensor, "chunk d_model"]]:
        """The rows at ascending positions as float32 where they lie, `n_rows` at a time; the last has the rest."""


class RowSource(ChunkedRows, Protocol):
    """Rows of which it is known where each comes from."""

    @property
    def image_index(self) -> Int[Tensor, "n_rows"]:
        """The image of each row."""

    @property
    def view(self) -> Int[Tensor, "n_rows"]:
        """0 = the plain image, above 0 = an augmented view of it."""


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Activations of one layer with the origin of each row, all in memory and on one device.

    A training on them draws every row in every epoch in one random order. Where they are too many for the memory, it
    reads `hsae.sae.rows.shards.StreamedRows`.

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
            yield take_rows(self, part, self.activations.device)


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


def check_finite(rows: TrainingRows, *, first_row: int = 0, wanted: Bool[Tensor, "n_listed"] | None = None) -> None:
    """Check that the activations (bfloat16, float16 or float32) are finite.

    Args:
        rows: some rows.
        first_row: the number of the first of them, for the message.
        wanted: by image, whether its rows count; None: all do.

    Raises:
        UserError: names the first row with NaN or infinity.
    """
    for start in range(0, rows.activations.shape[0], _CHUNK_ROWS):
        bad = ~torch.isfinite(rows.activations[start : start + _CHUNK_ROWS]).all(dim=1)
        if wanted is not None and bool(bad.any()):
            bad &= wanted[rows.image_index[start : start + _CHUNK_ROWS].long()]
        if bool(bad.any()):
            row = start + int(bad.to(torch.uint8).argmax())
            raise UserError(
                f"activation row {first_row + row} (image {int(rows.image_index[row])}, view {int(rows.view[row])})"
                " holds NaN or infinity: extract the activations in float32, or leave that image out"
            )


def in_chunks(parts: Iterable[Tensor], n_rows: int) -> Iterator[Tensor]:
    """The rows of matrices of any height, `n_rows` at a time; the last chunk has the rest."""
    held: list[Tensor] = []
    n_lacking = n_rows
    for part in parts:
        found = part
        while found.shape[0] >= n_lacking:
            yield torch.cat([*held, found[:n_lacking]])
            held, found, n_lacking = [], found[n_lacking:], n_rows
        held.append(found)
        n_lacking -= found.shape[0]
    if held and n_lacking < n_rows:
        yield torch.cat(held)


def take_rows(rows: TrainingRows, positions: Int[Tensor, "n"], device: torch.device) -> Float[Tensor, "n d_model"]:
    """The activations of some rows as float32 on a device."""
    source = rows.activations
    return source[positions.to(source.device)].to(device, torch.float32)
