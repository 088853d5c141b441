"""Activation rows that are read when they are needed, as trainings, samples and metrics read them."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float32, Int, Int64
from torch import Tensor

from hsae.sae.rows.shards import ShardReader, StoredShards
from hsae.sae.rows.shared_pass import Seat
from hsae.sae.rows.source import in_chunks


class StreamedRows(ShardReader):
    """Rows by their number (see `ShardLayout`), read shard by shard (a `hsae.sae.rows.source.ChunkedRows`)."""

    def __init__(self, shards: StoredShards, seat: Seat | None = None) -> None:
        """Read nothing yet.

        Args:
            shards: where they lie.
            seat: of a training that shares its pass with others.
        """
        super().__init__(shards)
        self.seat = seat

    def chunks(self, positions: Int[Tensor, "n"], n_rows: int) -> Iterator[Float32[Tensor, "chunk d_model"]]:
        """The rows of ascending numbers as float32, `n_rows` at a time; shards without any of them are not read.

        Raises:
            UserError: a wanted row of a shard that is read holds NaN or infinity.
        """
        return in_chunks(self._parts(positions), n_rows)

    def _parts(self, positions: Int[Tensor, "n"]) -> Iterator[Float32[Tensor, "part d_model"]]:
        ends = torch.searchsorted(positions, self.layout.bounds * self.layout.rows_per_image)
        for shard in torch.nonzero(torch.diff(ends)).flatten().tolist():
            self._shards.check()
            numbers = positions[ends[shard] : ends[shard + 1]]
            images = torch.unique_consecutive(numbers // self.layout.rows_per_image)
            rows, order = self.read(shard, _mask(images, int(self.layout.bounds[-1])))
            # The chosen images have all their rows in the shard, in the order of their numbers.
            place = torch.searchsorted(images, numbers // self.layout.rows_per_image) * self.layout.rows_per_image
            yield rows.activations[order[place + numbers % self.layout.rows_per_image]].float()


def _mask(images: Int64[Tensor, "n"], n_listed: int) -> Bool[Tensor, "n_listed"]:
    mask = torch.zeros(n_listed, dtype=torch.bool)
    mask[images] = True
    return mask
