"""Seed stability of latents: whether another seed of the SAE finds the same direction.

Two dictionaries are matched one to one so that the sum of the cosines of matched decoder directions is greatest (the
Hungarian method; for SAEs as in arXiv 2501.16615). The stability of a latent is its mean cosine over the other seeds.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Float64
from scipy.optimize import linear_sum_assignment

MAX_MATCHED = 6144
"""Greatest dictionary that is matched one to one: that of dinov2-base, eight latents to a dimension.

Measured there: 6 to 9 s a pair of seeds on one core and 0.6 GiB, growing with the third power and the square.
"""

_BLOCK_ROWS = 1024

Decoder = Float32[np.ndarray, "n_latents d_model"]


def seed_stability(decoders: Sequence[Decoder]) -> Float64[np.ndarray, "n_seeds n_latents"]:
    """Stability of every latent of every seed: -1 to 1, 1 where all other seeds have the same direction.

    In a dictionary of more than `MAX_MATCHED` latents every latent is matched with the most similar one of the other
    seed, which several may then share; chance gives more by that rule, too. A direction of zeros has the cosine 0.

    Args:
        decoders: decoder directions of two seeds or more, of any length.

    Raises:
        ValueError: there are fewer than two, or their shapes differ.
    """
    if len(decoders) < 2 or len({decoder.shape for decoder in decoders}) != 1:
        raise ValueError("give the decoders of two or more seeds of one configuration")
    unit = [_unit(decoder) for decoder in decoders]
    total = np.zeros((len(unit), len(unit[0])))
    for one in range(len(unit)):
        for other in range(one + 1, len(unit)):
            mine, theirs = matched_cosines(unit[one], unit[other])
            total[one] += mine
            total[other] += theirs
    return total / (len(unit) - 1)


def is_matched_one_to_one(n_latents: int) -> bool:
    """Whether dictionaries of this size are matched one to one."""
    return n_latents <= MAX_MATCHED


def matched_cosines(
    one: Float64[np.ndarray, "n_latents d_model"], other: Float64[np.ndarray, "n_latents d_model"]
) -> tuple[Float64[np.ndarray, "n_latents"], Float64[np.ndarray, "n_latents"]]:
    """For every latent of either dictionary the cosine with its match in the other one.

    Args:
        one: unit directions.
        other: unit directions.
    """
    if is_matched_one_to_one(len(one)):
        cosine = one @ other.T
        rows, columns = linear_sum_assignment(cosine, maximize=True)
        mine, theirs = np.empty(len(one)), np.empty(len(one))
        mine[rows] = theirs[columns] = cosine[rows, columns]
        return mine, theirs
    mine, theirs = np.empty(len(one)), np.full(len(one), -np.inf)
    for first in range(0, len(one), _BLOCK_ROWS):
        cosine = one[first : first + _BLOCK_ROWS] @ other.T
        mine[first : first + _BLOCK_ROWS] = cosine.max(axis=1)
        np.maximum(theirs, cosine.max(axis=0), out=theirs)
    return mine, theirs


def _unit(decoder: Float[np.ndarray, "n_latents d_model"]) -> Float64[np.ndarray, "n_latents d_model"]:
    directions = decoder.astype(np.float64)
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    return np.asarray(directions / np.where(length > 0, length, 1.0))
