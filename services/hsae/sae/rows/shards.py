"""Activation rows in shards that are read when they are needed: a set that need not fit into memory."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from hsae.sae.rows.source import TrainingRows, check_finite


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Which rows lie in which shard, known without reading one.

    Every image has `n_views` views of `n_tokens` rows each. The number of a row is
    `(image * n_views + view) * n_tokens + token`. It does not depend on the order in which a shard holds its rows;
    images without rows leave gaps.

    Attributes:
        bounds: ascending image numbers; shard s has the images `bounds[s] <= image < bounds[s + 1]`.
        first_rows: how many rows lie in the shards before each one, for messages.
        images: ascending numbers of the images that have rows and are wanted.
        n_views: views of each image.
        n_tokens: rows of one view of one image.
    """

    bounds: Int64[Tensor, "n_bounds"]
    first_rows: Int64[Tensor, "n_shards"]
    images: Int64[Tensor, "n_images"]
    n_views: int
    n_tokens: int

    @property
    def n_shards(self) -> int:
        """Number of shards."""
        return self.bounds.shape[0] - 1

    @property
    def rows_per_image(self) -> int:
        """Rows of an image, of all its views."""
        return self.n_views * self.n_tokens

    def images_per_shard(self, images: Int64[Tensor, "n"]) -> Int64[Tensor, "n_shards"]:
        """How many of these images (ascending) lie in each shard."""
        return torch.diff(torch.searchsorted(images, self.bounds))

    def numbers(self, images: Int64[Tensor, "n"], n_views: int) -> Int64[Tensor, "n_rows"]:
        """The row numbers of the first `n_views` views of these images, in the images' order."""
        within = torch.arange(n_views * self.n_tokens)
        return (images[:, None] * self.rows_per_image + within).flatten()


class StoredShards(Protocol):
    """Where shards are read. Several threads may read at the same time."""

    @property
    def d_model(self) -> int:
        """Length of a row."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the stored activations."""

    @property
    def layout(self) -> ShardLayout:
        """Which rows lie in which shard."""

    def read(self, shard: int) -> TrainingRows:
        """All rows of a shard; those of one image and view stand together, in the order of their tokens."""

    def check(self) -> None:
        """Raise if the reader must stop."""


class ShardReader:
    """Reads the rows of some images of a shard."""

    def __init__(self, shards: StoredShards) -> None:
        self._shards = shards
        self.layout = shards.layout
        self.d_model = shards.d_model
        self.dtype = shards.dtype

    def read(self, shard: int, is_chosen: Bool[Tensor, "n_listed"]) -> tuple[TrainingRows, Int64[Tensor, "n_chosen"]]:
        """A shard, and where in it the rows of the chosen images stand, in the order of their numbers.

        Args:
            shard: number of the shard.
            is_chosen: by image, whether its rows are wanted.

        Raises:
            UserError: a row of a chosen image holds NaN or infinity.
        """
        rows = self._shards.read(shard)
        group = rows.image_index.long() * self.layout.n_views + rows.view.long()
        order = torch.argsort(group, stable=True)
        order = order[is_chosen[rows.image_index[order].long()]]
        check_finite(rows, first_row=int(self.layout.first_rows[shard]), wanted=is_chosen)
        return rows, order
