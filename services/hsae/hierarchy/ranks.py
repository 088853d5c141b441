"""Ranks of every latent's activations: what AUROC and the Mann-Whitney test are made of.

Ranks do not depend on labels, so they are computed once and serve every control that permutes labels. Only
the non-zeros are sorted: all zeros of a latent share one mid-rank.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Float64, Int32, Int64

from hsae.errors import UserError

N_TOP_IMAGES = 16
"""How many of its strongest images stand for a latent (arXiv 2504.02821)."""

_MAX_IMAGES = 2**30
_BLOCK_NONZEROS = 1 << 22


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
    z: "sp.csr_array[np.float32]", *, threshold: float = 0.0, n_top: int = N_TOP_IMAGES
) -> RankedActivations:
    """Rank every latent's activations over all images.

    Args:
        z: float32[n_images, n_latents], not negative; stored zeros and unsorted indices are allowed.
        threshold: the firing rule is `z > threshold`; ranks always use all of `z`.
        n_top: how many of the strongest images are kept per latent.

    Raises:
        UserError: `z` is empty, holds NaN, infinite or negative values, or `threshold` is negative or not
            finite.
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise UserError(f"firing threshold {threshold}: it must be a finite number, 0 or greater")
    columns = _by_latent(z)
    n_images, n_latents = z.shape
    indptr = columns.indptr.astype(np.int64)
    activation = columns.data
    rank_excess = np.empty(len(activation), np.int32)
    tie_term = np.zeros(n_latents)
    n_fire = np.zeros(n_latents, np.int64)
    fire_mass = np.zeros(n_latents)
    top_images = np.full((n_latents, n_top), -1, np.int32)
    top_activations = np.zeros((n_latents, n_top), np.float32)
    for latents in latent_blocks(indptr):
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
        top_images[latents][is_there] = columns.indices[first:end][entry]
        top_activations[latents][is_there] = value[entry]
    return RankedActivations(
        n_images,
        threshold,
        indptr,
        columns.indices.astype(np.int32, copy=False),
        activation,
        rank_excess,
        tie_term,
        n_fire,
        fire_mass,
        top_images,
        top_activations,
    )


def latent_blocks(indptr: Int64[np.ndarray, "n_latents+1"], *, max_latents: int | None = None) -> Iterator[slice]:
    """Cut the latents into runs of a bounded number of non-zeros (a run holds one latent at least)."""
    n_latents = len(indptr) - 1
    first = 0
    while first < n_latents:
        end = int(np.searchsorted(indptr, indptr[first] + _BLOCK_NONZEROS, side="right")) - 1
        end = max(first + 1, min(end, n_latents))
        if max_latents is not None:
            end = min(end, first + max_latents)
        yield slice(first, end)
        first = end


def _by_latent(z: "sp.csr_array[np.float32]") -> "sp.csc_array[np.float32]":
    """Check `z` and turn it round: columns with sorted rows, no stored zeros, no duplicates."""
    if z.format != "csr" or z.dtype != np.float32:
        raise TypeError(f"activations must be float32 in CSR form, not {z.dtype} in {z.format.upper()}")
    n_images, n_latents = z.shape
    if n_images == 0 or n_latents == 0:
        raise UserError(f"activations of {n_images} images and {n_latents} latents: there is nothing to score")
    if n_images >= _MAX_IMAGES:
        raise UserError(f"activations of {n_images} images: at most {_MAX_IMAGES - 1} can be ranked at once")
    for is_bad, what in (
        (~np.isfinite(z.data), "NaN or infinite"),
        (z.data < 0, "negative"),
    ):
        if is_bad.any():
            entry = int(np.argmax(is_bad))
            image = int(np.searchsorted(z.indptr, entry, side="right")) - 1
            raise UserError(
                f"latent activations hold {int(is_bad.sum())} {what} values (the first: image {image}, "
                f"latent {int(z.indices[entry])}); scores need finite values, 0 or greater: check the SAE"
            )
    columns = z.tocsc()
    columns.sum_duplicates()
    columns.eliminate_zeros()
    return columns


def strongest_first(column: Int64[np.ndarray, "n"], value: Float32[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """Order of entries by (column, value descending, position); every value is greater than 0.

    The bit pattern of a positive float grows with it, so column and value fit one integer key.
    """
    key = column.astype(np.uint64) << np.uint64(32)
    key |= np.bitwise_not(np.ascontiguousarray(value).view(np.uint32))
    return np.argsort(key, kind="stable")


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
