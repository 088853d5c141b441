"""The split of rows that are streamed: the same images as in memory, and bounded samples to measure on."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import n_held_out
from hsae.sae.rows.random_streams import HOLDOUT_STREAM, MEASURED_STREAM, SHARD_STREAM, SUBSAMPLE_STREAM, generator
from hsae.sae.rows.shards import ShardLayout
from hsae.sae.rows.split import RowSplit

SAMPLED_SHARDS = 64
SAMPLED_ROWS = 1 << 18
PLAIN_ROWS = 1 << 20
_ROWS_DRAWN_FROM = 1 << 22


@dataclass(frozen=True, slots=True)
class StreamedSplit:
    """Which images train, and the rows that are read before and after the training.

    Attributes:
        is_trained: by image of the listing.
        rows_per_shard: how many training rows each shard has.
        samples: row numbers (see `ShardLayout`), at most 262,144 of each kind (`plain`: 1,048,576), from at most 64
            shards: `train` for the SAE's start, the others to measure on. Where all rows are fewer, it is all of them.
    """

    is_trained: Bool[Tensor, "n_listed"]
    rows_per_shard: Int64[Tensor, "n_shards"]
    samples: RowSplit

    @property
    def n_train_rows(self) -> int:
        """Rows that are trained on."""
        return int(self.rows_per_shard.sum())


def split_streamed(layout: ShardLayout, *, holdout_share: float, seed: int) -> StreamedSplit:
    """Hold out the images that `hsae.sae.rows.split.split_rows` holds out of the same set.

    Raises:
        UserError: fewer than two rows are left to train on.
    """
    images = layout.images
    n_holdout = n_held_out(len(images), holdout_share)
    order = torch.from_numpy(generator(seed, HOLDOUT_STREAM).permutation(len(images)))
    held_out = images[order[:n_holdout].sort().values]
    trained = images[order[n_holdout:].sort().values]
    n_train = len(trained) * layout.rows_per_image
    if n_train < 2:
        raise UserError(
            f"{n_train} of {len(images) * layout.rows_per_image} activation rows are left to train on: "
            "an SAE needs 2 at least, give more images or holdout_share 0"
        )
    is_trained = torch.zeros(int(layout.bounds[-1]), dtype=torch.bool)
    is_trained[trained] = True
    holdout = _sample(layout, held_out, seed, n_views=1, limit=SAMPLED_ROWS, stream=SUBSAMPLE_STREAM)
    limit = len(holdout) if n_holdout else SAMPLED_ROWS
    samples = RowSplit(
        train=_sample(layout, trained, seed, n_views=layout.n_views, limit=SAMPLED_ROWS, stream=SUBSAMPLE_STREAM),
        holdout=holdout,
        measured_train=_sample(layout, trained, seed, n_views=1, limit=limit, stream=MEASURED_STREAM),
        plain=_sample(layout, images, seed, n_views=1, limit=PLAIN_ROWS, stream=SUBSAMPLE_STREAM),
    )
    return StreamedSplit(is_trained, layout.images_per_shard(trained) * layout.rows_per_image, samples)


def _sample(
    layout: ShardLayout, images: Int64[Tensor, "n"], seed: int, *, n_views: int, limit: int, stream: int
) -> Int64[Tensor, "n_rows"]:
    """Ascending numbers of at most `limit` rows of the first views of these images, out of some shards.

    The shards come in one order for all samples, so that these lie in the same few where they can. They end where they
    hold 4,194,304 rows of such images or are 64.
    """
    per_shard = layout.images_per_shard(images)
    order = torch.from_numpy(generator(seed, SHARD_STREAM).permutation(layout.n_shards))
    order = order[per_shard[order] > 0]
    rows = per_shard[order].cumsum(0) * n_views * layout.n_tokens
    n_shards = min(SAMPLED_SHARDS, int((rows < _ROWS_DRAWN_FROM).sum()) + 1)
    ends = per_shard.cumsum(0)
    chosen = [images[ends[shard] - per_shard[shard] : ends[shard]] for shard in order[:n_shards].sort().values.tolist()]
    numbers = layout.numbers(torch.cat(chosen), n_views) if chosen else torch.empty(0, dtype=torch.int64)
    if len(numbers) <= limit:
        return numbers
    drawn = generator(seed, stream).permutation(len(numbers))[:limit]
    return numbers[torch.from_numpy(np.sort(drawn))]
