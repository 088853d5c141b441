"""Ranks of every latent's activations, the input of AUROC and of the Mann-Whitney test.

Ranks do not depend on labels: they are computed once and reused by every control that permutes labels. Only the
non-zeros are sorted, because all zeros of a latent share one mid-rank.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float32, Float64, Int32, Int64
from torch import Tensor
from torch.nn.functional import pad

from hsae.errors import UserError
from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.kernels.device import (
    Device,
    groups,
    is_cpu,
    run_lengths,
    run_numbers,
    segment_count,
    segment_sum,
    stable_sort,
    to_device,
    to_host,
    true_indices,
)
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.latent_columns import LatentColumns, latent_columns

N_TOP_IMAGES = 16
"""Number of strongest images that represent a latent (arXiv 2504.02821)."""

_VALUE_BITS = 31
_TIE_BITS = 30


@dataclass(frozen=True, slots=True, eq=False)
class RankedActivations:
    """The non-zero activations, column by column (latent by latent, images ascending), with their ranks.

    Ranks are stored as integers. The mid-rank among all `n_images` (1 = weakest) is a multiple of one half, so twice
    the mid-rank is used. Stored is its excess over that of the latent's zeros (`n_zero + 1`), so zeros need no entry.

    Attributes:
        n_images: number of images, including those without activations.
        threshold: a latent fires on an image if its activation is greater than this.
        indptr: latent `j` has the entries `indptr[j]:indptr[j + 1]`.
        image: row of every entry.
        activation: its activation, greater than 0.
        rank_excess: twice its mid-rank, minus twice the mid-rank of the latent's zeros.
        tie_term: `sum(t**3 - t)` over all groups of `t` tied images, including the zeros. A float: exact up to 2**53,
            that is for 208,000 images, rounded beyond.
        n_fire: number of images on which the latent fires.
        fire_mass: sum of the activations with which it fires.
        top_images: its strongest firing images, strongest first, ties by image; padded with -1.
        top_activations: their activations; padded with 0.
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
        """Number of latents, including dead ones."""
        return len(self.indptr) - 1


def rank_activations(
    z: "sp.csr_array[np.float32] | Iterable[sp.csr_array[np.float32]]",
    *,
    threshold: float = 0.0,
    n_top: int = N_TOP_IMAGES,
    device: Device = "cpu",
) -> RankedActivations:
    """Rank every latent's activations over all images.

    Args:
        z: float32[n_images, n_latents], not negative, as one matrix or as consecutive shards of its rows; stored zeros
            and unsorted indices are allowed.
        threshold: a latent fires if `z > threshold`; ranks always use all of `z`.
        n_top: number of strongest images to keep per latent.
        device: device for the ranking; the result is in CPU memory.

    Raises:
        UserError: `z` is empty or holds NaN, infinite or negative values; or `threshold` is negative or not finite.
    """
    if not (np.isfinite(threshold) and threshold >= 0):
        raise UserError(f"firing threshold {threshold}: it must be a finite number, 0 or greater")
    columns = latent_columns([z] if sp.issparse(z) else z)
    return rank_columns(columns, threshold=threshold, n_top=n_top, device=device)


def rank_columns(
    columns: LatentColumns, *, threshold: float = 0.0, n_top: int = N_TOP_IMAGES, device: Device = "cpu"
) -> RankedActivations:
    """As `rank_activations`, of activations that stand latent by latent already and need no check.

    Args:
        columns: the non-zeros of every latent.
        threshold: as for `rank_activations`, a finite number, 0 or greater.
        n_top: as there.
        device: as there.
    """
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
        value = to_device(activation[first:end], device)
        found = to_host(_of_block(value, to_device(n_nonzero, device), n_images, threshold, n_top))
        rank_excess[first:end] = found["rank_excess"]
        tie_term[latents], fire_mass[latents] = found["tie_term"], found["fire_mass"]
        # At the threshold 0 every non-zero fires.
        n_fire[latents] = fire_counts = found["n_fire"] if threshold > 0 else n_nonzero
        is_there = np.arange(n_top) < fire_counts[:, np.newaxis]
        entry = found["strongest"][is_there]
        top_images[latents][is_there] = image[first:end][entry]
        top_activations[latents][is_there] = activation[first:end][entry]

    for _ in map_blocks(rank, latent_blocks(indptr, on_gpu=not is_cpu(device)), device):
        pass  # each block writes to its own part of the arrays
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


def _of_block(
    value: Float32[Tensor, " n"], n_nonzero: Int64[Tensor, " n_columns"], n_images: int, threshold: float, n_top: int
) -> dict[str, Tensor]:
    """What is known of some columns from their non-zeros, column by column, on the device of these.

    Shapes depend on those of the arguments alone, so that the host need not wait for a GPU.

    Returns:
        Fields of `RankedActivations` (`n_fire` for a threshold above 0); and `strongest`, int64[n_columns, n_top]: the
        positions of each column's strongest entries, of which those beyond the last mean nothing.
    """
    n, width = len(value), len(n_nonzero)
    column = run_numbers(n_nonzero, n)
    start = n_nonzero.cumsum(0) - n_nonzero
    order, first_of_tie, tie = strongest_first(column, value, n_columns=width)
    ranks, ties = _ranks(column, (order, first_of_tie, tie), start, n_nonzero, n_images)
    found = {"rank_excess": ranks, "tie_term": ties}
    if threshold > 0:
        fires = value > threshold
        found["n_fire"] = segment_count(column, fires.long(), n_nonzero)
        value = torch.where(fires, value, 0.0)
    found["fire_mass"] = segment_sum(column, value.double(), n_nonzero)
    place = (start[:, None] + torch.arange(n_top, device=value.device)).clamp(max=n)
    found["strongest"] = pad(order, (0, 1)).index_select(0, place.view(-1)).view(place.shape)
    return found


def strongest_first(
    column: Int64[Tensor, " n"], value: Float32[Tensor, " n"], *, n_columns: int | None = None
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n_ties"], Int64[Tensor, " n"]]:
    """Order entries by (column, value descending, position); columns must ascend, values must be greater than 0.

    The bit patterns of positive floats have the same order as the floats, so column and value fit one integer key.

    Args:
        column: column of every entry.
        value: its value.
        n_columns: number of columns; None: up to the last one with an entry, for which the host waits for a GPU.

    Returns:
        The order; and for the ordered entries their groups of ties (an untied entry is a group of one), as from
        `groups`: the start of each group, and the group of every entry.
    """
    if n_columns is None:
        n_columns = 0 if len(column) == 0 else int(column[-1]) + 1
    greatest = max(0, (n_columns << _VALUE_BITS) - 1)
    key = column << _VALUE_BITS
    key |= value.contiguous().view(torch.int32) ^ (2**_VALUE_BITS - 1)  # the greatest value has the smallest key
    ordered, order = stable_sort(key, greatest)
    return order, *groups(ordered)


def _ranks(
    column: Int64[Tensor, " n"],
    in_order: tuple[Int64[Tensor, " n"], Int64[Tensor, " n_ties"], Int64[Tensor, " n"]],
    start: Int64[Tensor, " n_columns"],
    n_nonzero: Int64[Tensor, " n_columns"],
    n_images: int,
) -> tuple[Int32[Tensor, " n"], Float64[Tensor, " n_columns"]]:
    """Excess of twice the mid-ranks over that of the zeros, and the tie terms.

    The order keeps the entries of a column together, so `column` holds for the ordered entries as well.

    Args:
        column: column of every entry.
        in_order: from `strongest_first`.
        start: first entry of every column.
        n_nonzero: entries of every column.
        n_images: number of images.
    """
    order, first, tie = in_order
    n_zero = n_images - n_nonzero
    size = run_lengths(first, len(order))
    if is_cpu(column.device):
        owner = column.index_select(0, first)
    else:  # a GPU does not say how many groups there are: what holds for a group is written at each of its entries
        first, size, owner = first.index_select(0, tie), size.index_select(0, tie), column
    # A group of t images after s stronger ones has ranks N-s-t+1 .. N-s: twice the mid-rank is 2N - 2s - t + 1.
    # For the zeros it is n_zero + 1 = N - n_nonzero + 1.
    excess = (n_images + n_nonzero + 2 * start).index_select(0, owner) - 2 * first
    excess = (excess - size).int()
    if len(size) < len(order):
        excess = excess.index_select(0, tie)
    ranks = torch.empty_like(excess).scatter_(0, order, excess)
    high, low = (
        of_groups + of_zeros
        for of_groups, of_zeros in zip(_tie_sums(owner, first, size, n_nonzero), _cubes(n_zero), strict=True)
    )
    return ranks, high.double() * 2.0**_TIE_BITS + low.double()


def _tie_sums(
    owner: Int64[Tensor, " n_groups"],
    first: Int64[Tensor, " n_groups"],
    size: Int64[Tensor, " n_groups"],
    n_nonzero: Int64[Tensor, " n_columns"],
) -> tuple[Int64[Tensor, " n_columns"], Int64[Tensor, " n_columns"]]:
    """The sums of `_cubes` over every column's groups of ties; a group of one adds nothing."""
    n_columns = len(n_nonzero)
    if is_cpu(owner.device):
        tied = true_indices(size > 1)
        of_column = owner[tied]
        high, low = (
            torch.zeros(n_columns, dtype=torch.int64).scatter_add_(0, of_column, part) for part in _cubes(size[tied])
        )
        return high, low
    counts = torch.arange(len(first), device=first.device) == first  # a group counts at its first entry
    high, low = (segment_count(owner, part * counts, n_nonzero) for part in _cubes(size))
    return high, low


def _cubes(size: Int64[Tensor, " n"]) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """`t**3 - t` as `high * 2**30 + low`; sums of either part over all images (fewer than 2**30) fit int64."""
    square = size * size - 1
    return size * (square >> _TIE_BITS), size * (square & ((1 << _TIE_BITS) - 1))
