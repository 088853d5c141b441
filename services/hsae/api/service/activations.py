"""Stored activations of a layer, read by ranges of rows."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from hsae.api.frames import html_table
from hsae.api.service.reading import StoredReader, losses_noted
from hsae.backbones.hooks.names import RESIDUAL
from hsae.errors import UserError
from hsae.pipeline.stages.activation_reader import open_activation_set, read_range
from hsae.store.activations import ActivationManifest, ActivationRows

BLOCK_ROWS = 4096
_SHOWN = {
    "model": "model", "layer": "layer", "hook": "hook point", "tokens": "tokens", "n_rows": "rows",
    "d_model": "d_model", "dtype": "stored as",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """The rows of one layer, as they are stored; nothing is read before it is asked for.

    `acts[1000:2000]` is a part, of which `.numpy()` and `.torch()` read only the shards that it needs. `for block in
    acts.blocks(4096)` goes through all rows with one shard and one block in memory.

    Attributes:
        reader: the object store.
        manifest: what the set consists of.
        start: the first row of this part.
        stop: the row after the last.
    """

    reader: StoredReader
    manifest: ActivationManifest
    start: int
    stop: int

    @property
    def layer(self) -> int:
        """The 0-based block whose output it is."""
        return self.manifest.layer

    @property
    def tokens(self) -> str:
        """`cls`, `registers`, `patches` or `mean`; of an image there are `manifest.n_tokens` rows."""
        return self.manifest.tokens

    @property
    def hook(self) -> str:
        """Which activations of the layer: `residual`, `attention`, `mlp`, `embedding`, or the path of a module."""
        return self.manifest.hook

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, d_model)."""
        return self.stop - self.start, self.manifest.d_model

    @property
    def dtype(self) -> torch.dtype:
        """As stored: float32 or bfloat16."""
        found: torch.dtype = getattr(torch, self.manifest.dtype)
        return found

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, rows: int | slice) -> "Activations":
        """A part of the rows, which are not read yet; one row is a part of one.

        Raises:
            UserError: the slice has a step, or it is neither a number nor a slice.
            IndexError: there is no such row.
        """
        try:
            if not isinstance(rows, slice):
                row = range(self.start, self.stop)[rows]
                return replace(self, start=row, stop=row + 1)
            first, end, step = rows.indices(len(self))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"rows {rows!r} are neither a number nor a range: take acts[3] or acts[10:20], and choose rows of the"
                " array, such as acts[10:20].numpy()[[1, 2]]"
            ) from error
        if step != 1:
            raise UserError("rows are read by ranges: take a slice without a step, and choose rows of the array")
        return replace(self, start=self.start + first, stop=self.start + max(first, end))

    def rows(self) -> ActivationRows:
        """The rows with their origin, in memory: `activations` as stored, `image_index` and `view`.

        `image_index` is the image's number in the data set's listing; `view` is 0 for the plain image and above 0 for
        an augmented training view.

        Raises:
            UserError: a shard is lost or damaged.
        """
        activations = torch.empty(len(self), self.manifest.d_model, dtype=self.dtype)
        images = torch.empty(len(self), dtype=torch.int32)
        view = torch.empty(len(self), dtype=torch.int16)
        with losses_noted(self.reader.connections):
            for first, part in read_range(self.reader, self.manifest, self.start, self.stop):
                at = slice(first - self.start, first - self.start + len(part.view))
                activations[at], images[at], view[at] = part.activations, part.image_index, part.view
        return ActivationRows(activations, images, view)

    def torch(self) -> Float[Tensor, "n_rows d_model"]:
        """The rows as a tensor on the CPU, as stored. Raises as `rows`."""
        return self.rows().activations

    def numpy(self) -> Float32[np.ndarray, "n_rows d_model"]:
        """The rows as float32. Raises as `rows`."""
        return self.torch().float().numpy()

    def images(self) -> Int32[np.ndarray, "n_rows"]:
        """The image of every row, as its number in the data set's listing. Raises as `rows`."""
        return self.rows().image_index.numpy()

    def blocks(self, n_rows: int = BLOCK_ROWS) -> Iterator[Float[Tensor, "n_rows d_model"]]:
        """The rows in order, `n_rows` at a time (the last block has the rest), as stored.

        Raises:
            UserError: `n_rows` is not positive, or a shard is lost or damaged.
        """
        if n_rows < 1:
            raise UserError(f"a block of {n_rows} rows holds none: give 1 or more")
        waiting: list[Tensor] = []
        n_waiting = 0
        with losses_noted(self.reader.connections):
            for _, part in read_range(self.reader, self.manifest, self.start, self.stop):
                rest = part.activations
                while n_waiting + len(rest) >= n_rows:
                    n_taken = n_rows - n_waiting
                    yield torch.cat([*waiting, rest[:n_taken]])
                    waiting, n_waiting, rest = [], 0, rest[n_taken:]
                if len(rest):
                    waiting.append(rest)
                    n_waiting += len(rest)
        if waiting:
            yield torch.cat(waiting)

    def __iter__(self) -> Iterator[Any]:
        return self.blocks()

    def _repr_html_(self) -> str:
        n_rows, d_model = self.shape
        row = {name: getattr(self.manifest, name) for name in ("model", "layer", "hook", "tokens", "dtype")}
        return html_table("Activations", [row | {"n_rows": n_rows, "d_model": d_model}], _SHOWN)

    def __repr__(self) -> str:
        n_rows, d_model = self.shape
        hook = "" if self.hook == RESIDUAL else f" at {self.hook}"
        return (
            f"<Activations: {self.tokens} of {self.manifest.model} layer {self.layer}{hook}, {n_rows} rows x {d_model},"
            f" {self.manifest.dtype}>"
        )


def open_activations(reader: StoredReader, key: str) -> Activations:
    """All rows of the set with this key.

    Raises:
        UserError: it is not there, or its manifest is lost.
    """
    with losses_noted(reader.connections):
        _, manifest = open_activation_set(reader, key)
    return Activations(reader, manifest, 0, manifest.n_rows)
