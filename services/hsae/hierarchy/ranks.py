"""Ranks of every latent's activations: what AUROC and the Mann-Whitney test are made of.

Ranks do not depend on labels, so they are computed once and serve every control that permutes labels. Only
the non-zeros are sorted: all zeros of a latent share one mid-rank.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int32, Int64

from hsae.errors import UserError
from hsae.hierarchy.blocks import latent_blocks, map_blocks
from hsae.hierarchy.latent_columns import latent_columns

N_TOP_IMAGES = 16
"""How many of its strongest images stand for a latent (arXiv 2504.02821)."""

_VALUE_BITS = 31
_KEY_BITS = 63


@dataclass(frozen=True, slots=True, eq=False)
class RankedActivations:
    """The non-zero activations, column by column (latent by latent, images ascending), with their ranks.

    Ranks are kept as integers: the mid-rank among all `n_images` (1 = weakest) is a multiple of one half, so
    it is doubled; and of the doubled mid-rank only the excess over that of the latent's zeros (`n_zero + 1`)
    is stored, so that zeros need no entry.

    Attributes:
        n_images: images, those without any activation included.
        threshold: a latent fires on an image when its activation is greater than this.
        indptr: latent `j` owns the entries `indptr[j]:indptr[j + 1]`.
        image: row of every entry.
        activation: its activation, greater than 0.
        rank_excess: its doubled mid-rank minus that of the latent's zeros.
        tie_term: `sum(t**3 - t)` over all groups of `t` tied images, zeros included (a float: exact up to
            2**53, that is 208,000 images, correctly rounded beyond).
        n_fire: images on which the latent fires.
        fire_mass: the sum of the activations with which it fires.
        top_images: its strongest firing images, strongest first, ties by image; -1 where it fires on fewer.
        top_activations: their activations, 0 where there is none.
    """

    n_images: int
    threshold: float
    indptr: Int64[np.ndarray, "n_latents+1"]
    image: Int32[np.ndarray, "n_nonzero"]
    activation: Float32[np.ndarray, "n_nonzero"]
    rank_excess: Int32[np.ndarray, "n_nonzero"]
    tie_term: Float64[np.ndarray, "n_latents"]
    n_fire: Int64[np.ndarray, "n_latents"]
    fire_mass: Float64[np.ndarray, "n_latents"]
    top_images: Int32[np.ndarray, "n_latents n_top"]
    top_activations: Float32[np.ndarray, "n_latents n_top"]

    @property
    def n_latents(self) -> int:
        """Latents, dead ones included."""
        return len(self.indptr) - 1


def rank_activations(
    z: "sp.csr_array[np.float32] | Iterable[sp.csr_array[np.float32]]",
    *,
    threshold: float = 0.0,
    n_top: int = N_TOP_IMAGES,
) -> RankedActivations:
    """Rank every latent's activations over all images.

    Args:
        z: float32[n_images, n_latents], not negative, whole or as shards of its rows in their order; stored zeros and
            unsorted indices are allowed.
        threshold: the firing rule is `z > threshold`; ranks always use all of `z`.
        n_top: how many of the strongest images are kept per latent.

    Raises:
        UserError: `z` is empty, holds NaN, infinite or negative values, or `threshold` is negative or not
            finite.
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise UserError(f"firing threshold {threshold}: it must be a finite number, 0 or greater")
    columns = latent_columns([z] if sp.issparse(z) else z)
    n_images, indptr, image, activation = columns.n_images, columns.indptr, columns.image, columns.activation
    n_latents = len(indptr) - 1
    rank_excess = np.empty(len(activation), np.int32)
    tie_term = np.zeros(n_latents)
    n_fire = np.zeros(n_latents, np.int64)
    fire_mass = np.zeros(n_latents)
    top_images = np.full((n_latents, n_top), -1, np.int32)
    top_activations = np.zeros((n_latents, n_top), np.float32)

    def rank(latents: slice) -> None:
        first, end = int(indptr[latents.start]), int(indptr[latents.stop])
        n_nonzero = np.diff(indptr[latents.start : latents.stop + 1])
        column = np.repeat(np.arange(len(n_nonzero)), n_nonzero)
        start = indptr[latents.start : latents.stop] - first
        value = activation[first:end]
        order = strongest_first(column, value)
        rank_excess[first:end], tie_term[latents] = _ranks(column, value, order, start, n_nonzero, n_images)

        fires = value > threshold
        n_fire[latents] = np.bincount(column[fires], minlength=len(n_nonzero))
        fire_mass[latents] = np.bincount(column[fires], value[fires], minlength=len(n_nonzero))
        place = np.arange(n_top)
        is_there = place < n_fire[latents, np.newaxis]
        entry = order[(start[:, np.newaxis] + place)[is_there]]
        top_images[latents][is_there] = image[first:end][entry]
        top_activations[latents][is_there] = value[entry]

    map_blocks(rank, latent_blocks(indptr))
    return RankedActivations(
        n_images,
        threshold,
        indptr,
        image,
        activation,
        rank_excess,
        tie_term,
        n_fire,
        fire_mass,
        top_images,
        top_activations,
    )


def strongest_first(column: Int64[np.ndarray, "n"], value: Float32[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """Order of entries by (column, value descending, position); columns ascend and every value is greater than 0.

    The bit pattern of a positive float grows with it, so column and value fit one integer key. Where the position fits
    in as well, no two keys are equal and the keys themselves are sorted, several times as fast as positions by key.
    """
    if len(column) == 0:
        return np.empty(0, np.int64)
    position_bits = (len(column) - 1).bit_length()
    with_position = int(column[-1]).bit_length() + _VALUE_BITS + position_bits <= _KEY_BITS
    key = column << _VALUE_BITS
    key |= np.bitwise_xor(np.ascontiguousarray(value).view(np.int32), np.int32(2**_VALUE_BITS - 1))  # greatest first
    if not with_position:
        return np.argsort(key, kind="stable")
    key <<= position_bits
    key |= np.arange(len(column))
    key.sort()
    key &= (1 << position_bits) - 1
    return key


def _ranks(
    column: Int64[np.ndarray, "n"],
    value: Float32[np.ndarray, "n"],
    order: Int64[np.ndarray, "n"],
    start: Int64[np.ndarray, "n_columns"],
    n_nonzero: Int64[np.ndarray, "n_columns"],
    n_images: int,
) -> tuple[Int32[np.ndarray, "n"], Float64[np.ndarray, "n_columns"]]:
    """Excess of the doubled mid-ranks over that of the zeros, and the tie terms."""
    n_zero = (n_images - n_nonzero).astype(np.float64)
    if len(order) == 0:
        return np.empty(0, np.int32), n_zero**3 - n_zero
    sorted_column, sorted_value = column[order], value[order]
    is_first = np.empty(len(order), np.bool_)
    is_first[0] = True
    is_first[1:] = (sorted_column[1:] != sorted_column[:-1]) | (sorted_value[1:] != sorted_value[:-1])
    group = np.flatnonzero(is_first)
    size = np.diff(group, append=len(order))
    owner = sorted_column[group]
    # A group of t images behind s stronger ones has the ranks N-s-t+1 .. N-s: doubled mid-rank 2N - 2s - t +
    # 1; the zeros' is n_zero + 1 = N - n_nonzero + 1.
    excess = n_images + n_nonzero[owner] - 2 * (group - start[owner]) - size
    ranks = np.empty(len(order), np.int32)
    ranks[order] = np.repeat(excess, size)
    t = size.astype(np.float64)
    ties = np.bincount(owner, t**3 - t, minlength=len(start)) + (n_zero**3 - n_zero)
    return ranks, ties
