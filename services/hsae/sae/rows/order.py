"""The order in which training reads its rows: a pure function of the seed and the step."""

import torch
from jaxtyping import Int
from torch import Tensor

from hsae.sae.rows.random_streams import generator


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
            self._order = torch.from_numpy(generator(self._seed, epoch).permutation(self._n_rows))
            self._epoch = epoch
        start = position * self.batch_size
        return self._order[start : start + self.batch_size]
