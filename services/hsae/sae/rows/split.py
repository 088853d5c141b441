"""Which rows train and which measure: whole images, drawn with a seed."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hsae.errors import UserError
from hsae.sae.config import n_held_out
from hsae.sae.rows.random_streams import HOLDOUT_STREAM, MEASURED_STREAM, SUBSAMPLE_STREAM, generator
from hsae.sae.rows.source import RowSource


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
    order = torch.from_numpy(generator(seed, HOLDOUT_STREAM).permutation(n_images))
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
        measured_train = _drawn(measured_train, holdout.shape[0], seed, MEASURED_STREAM)
    return RowSplit(train, holdout, measured_train, plain=torch.nonzero(is_plain).flatten())


def subsample(positions: Int[Tensor, "n"], limit: int, seed: int) -> Int[Tensor, "m"]:
    """At most `limit` of the positions, ascending, the same for the same seed."""
    return _drawn(positions, limit, seed, SUBSAMPLE_STREAM)


def _drawn(positions: Int[Tensor, "n"], limit: int, seed: int, stream: int) -> Int[Tensor, "m"]:
    n = positions.shape[0]
    if n <= limit:
        return positions
    chosen = np.sort(generator(seed, stream).permutation(n)[:limit])
    return positions[torch.from_numpy(chosen)]


def _is_in(values: Int[Tensor, "n"], chosen: Int[Tensor, "m"]) -> Bool[Tensor, "n"]:
    return torch.isin(values, chosen)
