"""Which images the probes are trained on, and which they are scored on."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, Int64

TEST_SHARE = 0.25
"""Share of every class's images that is scored where no other split is given."""


class ProbeParts(Protocol):
    """Positions among the given images, ascending; no image is in both parts."""

    @property
    def train(self) -> Int64[np.ndarray, "n_train"]:
        """Images to train on, which are also the candidate neighbours."""

    @property
    def score(self) -> Int64[np.ndarray, "n_score"]:
        """Images that every number is measured on."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainAndScore:
    """The two parts as arrays (a `ProbeParts`)."""

    train: Int64[np.ndarray, "n_train"]
    score: Int64[np.ndarray, "n_score"]


def split_by_class(labels: Int[np.ndarray, "n_images"], seed: int, test_share: float = TEST_SHARE) -> TrainAndScore:
    """The split that is used where none is given: `test_share` of every class's images are scored.

    Args:
        labels: class of every image.
        seed: seed of the choice.
        test_share: see `stratified_split`.
    """
    is_test = stratified_split(np.unique(labels, return_inverse=True)[1], test_share, seed)
    return TrainAndScore(np.flatnonzero(~is_test), np.flatnonzero(is_test))


def stratified_split(y: Int64[np.ndarray, "n_images"], test_share: float, seed: int) -> Bool[np.ndarray, "n_images"]:
    """Choose test images: `test_share * n` of a class of `n > 1` images, rounded, between 1 and `n - 1`.

    Args:
        y: class of every image, numbered from 0.
        test_share: share of every class's images to choose; the image of a class with one image is not chosen.
        seed: seed of the choice.
    """
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(y))
    order = shuffled[np.argsort(y[shuffled], kind="stable")]
    sizes = np.bincount(y)
    n_test = np.clip(np.floor(test_share * sizes + 0.5).astype(np.int64), 1, np.maximum(sizes - 1, 1))
    n_test[sizes < 2] = 0
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(y)) - np.repeat(starts, sizes)
    is_test = np.zeros(len(y), np.bool_)
    is_test[order] = place < np.repeat(n_test, sizes)
    return is_test
