"""Shards of a small set in memory, as the store holds them, with a record of what was read."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from hsae.sae.rows.shards import ShardLayout
from hsae.sae.rows.source import TrainingRows


@dataclass
class ShardsInMemory:
    """Shards of `sizes` images each; skipped images have no rows.

    Attributes:
        layout: as a manifest gives it.
        shards: their rows; batches of two images, of each of which all views stand together.
        read_shards: which were read, in order.
    """

    layout: ShardLayout
    shards: list[TrainingRows]
    read_shards: list[int] = field(default_factory=list)
    n_checks: int = 0

    @classmethod
    def of(
        cls,
        activations: Tensor,
        sizes: list[int],
        *,
        n_views: int = 1,
        n_tokens: int = 1,
        skipped: frozenset[int] = frozenset(),
        unwanted: frozenset[int] = frozenset(),
    ) -> "ShardsInMemory":
        """Cut rows, which are given in the order of image, view and token, into shards."""
        shards, bounds, first_rows = [], [0], []
        per_image = n_views * n_tokens
        images = [image for image in range(sum(sizes)) if image not in skipped]
        rank = {image: number for number, image in enumerate(images)}
        n_before = 0
        for size in sizes:
            listed = range(bounds[-1], bounds[-1] + size)
            origin = [
                (image, view, token)
                for start in range(0, size, 2)
                for view in range(n_views)
                for image in listed[start : start + 2]
                if image not in skipped
                for token in range(n_tokens)
            ]
            at = [rank[image] * per_image + view * n_tokens + token for image, view, token in origin]
            image_index, view = torch.tensor([o[:2] for o in origin], dtype=torch.int64).reshape(-1, 2).T
            shards.append(TrainingRows(activations[at], image_index.int(), view.short()))
            first_rows.append(n_before)
            n_before += len(origin)
            bounds.append(bounds[-1] + size)
        assert n_before == len(activations)
        wanted = torch.tensor([image for image in images if image not in unwanted], dtype=torch.int64)
        layout = ShardLayout(torch.tensor(bounds), torch.tensor(first_rows), wanted, n_views, n_tokens)
        return cls(layout, shards)

    @property
    def d_model(self) -> int:
        return self.shards[0].activations.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        return self.shards[0].activations.dtype

    def read(self, shard: int) -> TrainingRows:
        self.read_shards.append(shard)
        return self.shards[shard]

    def check(self) -> None:
        self.n_checks += 1

    def in_memory(self) -> TrainingRows:
        """The rows of the wanted images in the order of the shards."""
        columns = ("activations", "image_index", "view")
        whole = TrainingRows(*(torch.cat([getattr(shard, name) for shard in self.shards]) for name in columns))
        kept = torch.isin(whole.image_index.long(), self.layout.images)
        return TrainingRows(whole.activations[kept], whole.image_index[kept], whole.view[kept])
