"""Draws of different classes at random, which stand for a latent's classes at random places of the tree."""

import numpy as np
from jaxtyping import Int32, Int64

N_DRAWS = 10_000

_STREAM = 1
"""Keeps the draws apart from other random numbers of the same seed."""


def random_classes(
    classes: Int64[np.ndarray, "n_present"], n: int, seed: int, *, n_draws: int = N_DRAWS
) -> Int32[np.ndarray, "n_draws n"]:
    """Draw `n` different classes at a time; the first `k` columns are draws of `k` classes.

    Every ordered choice has the same probability, as the first `n` places of a random permutation (Floyd's sampling,
    then shuffled: memory does not grow with the number of classes).

    Args:
        classes: the classes to draw from, at least `n`.
        n: number of classes of a draw.
        seed: of the draws.
        n_draws: number of draws.
    """
    if n > len(classes):
        raise ValueError(f"{n} different classes of {len(classes)} cannot be drawn")
    rng = np.random.Generator(np.random.PCG64((seed, _STREAM)))
    chosen = np.empty((n_draws, n), np.int64)
    for place, last in enumerate(range(len(classes) - n, len(classes))):
        one = rng.integers(0, last + 1, n_draws)
        is_taken = (chosen[:, :place] == one[:, np.newaxis]).any(axis=1)
        chosen[:, place] = np.where(is_taken, last, one)
    rng.permuted(chosen, axis=1, out=chosen)
    return classes[chosen].astype(np.int32)
