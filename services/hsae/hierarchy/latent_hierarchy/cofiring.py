"""Co-firing of latents: all pairs by a sparse product, chosen pairs image by image.

The firing rule applies everywhere: an activation that is not above the threshold counts as 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float32, Float64, Int, Int64

from hsae.hierarchy.kernels.blocks import go_on, latent_blocks, ranges
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.statistics.ranks import RankedActivations, strongest_first

_BLOCK_PAIRS = 1 << 22
"""Pairs of latents per block of the product: for 12,288 latents, 341 latents at once, 50 MB."""

MIN_IMAGES = 3
"""A correlation over fewer images is undefined: over two it can only be -1 or 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Firings:
    """The activations with which latents fire, latent by latent, images ascending.

    Attributes:
        n_images: number of images, including those on which nothing fires.
        indptr: latent `j` has the entries `indptr[j]:indptr[j + 1]`.
        image: image of every entry.
        activation: its activation, greater than the threshold.
        key: `latent * n_images + image`, ascending; used to look up entries.
        mass: sum of every latent's activations.
    """

    n_images: int
    indptr: Int64[np.ndarray, "n_latents+1"]
    image: Int[np.ndarray, "n_firings"]
    activation: Float32[np.ndarray, "n_firings"]
    key: Int64[np.ndarray, "n_firings"]
    mass: Float64[np.ndarray, "n_latents"]

    @classmethod
    def of(cls, ranked: RankedActivations) -> "Firings":
        """Keep the activations above the threshold."""
        fires = ranked.activation > ranked.threshold
        latent = np.repeat(np.arange(ranked.n_latents), np.diff(ranked.indptr))[fires]
        image = ranked.image[fires]
        return cls(
            n_images=ranked.n_images,
            indptr=np.concatenate(([0], np.cumsum(ranked.n_fire))),
            image=image,
            activation=ranked.activation[fires],
            key=latent * ranked.n_images + image,
            mass=ranked.fire_mass,
        )

    @property
    def n_latents(self) -> int:
        """Number of latents, including dead ones."""
        return len(self.indptr) - 1

    @property
    def n_fire(self) -> Int64[np.ndarray, "n_latents"]:
        """Number of images on which each latent fires."""
        return np.diff(self.indptr)

    def entries(self, latents: Int[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n_entries"], np.ndarray]:
        """The entries of some latents, concatenated, and for each entry the index of its latent in `latents`."""
        return ranges(self.indptr[latents], self.n_fire[latents])


class Overlap(NamedTuple):
    """Images on which both latents of a pair fire, pair by pair, images ascending.

    pair: index of the pair; child, parent: the entries of the two latents in `Firings`.
    """

    pair: Int64[np.ndarray, "n"]
    child: Int64[np.ndarray, "n"]
    parent: Int64[np.ndarray, "n"]


@dataclass(frozen=True, slots=True, eq=False)
class Cofiring:
    """Statistics of pairs over the images on which both latents fire; NaN where undefined.

    Attributes:
        n_both: images on which both fire.
        child_mass: sum of the child's activations on them.
        parent_mass: sum of the parent's activations on them.
        dominance: share of these images on which the parent is stronger; a tie does not count; NaN without images.
        correlation: Spearman correlation of the two activations over these images; NaN for fewer than 3 images, or if
            one latent has the same activation on all of them.
    """

    n_both: Int64[np.ndarray, "n_pairs"]
    child_mass: Float64[np.ndarray, "n_pairs"]
    parent_mass: Float64[np.ndarray, "n_pairs"]
    dominance: Float64[np.ndarray, "n_pairs"]
    correlation: Float64[np.ndarray, "n_pairs"]


def implying_pairs(
    firings: Firings,
    is_eligible: Bool[np.ndarray, "n_latents"],
    least: float,
    *,
    check: Callable[[], None] = go_on,
) -> tuple[Int64[np.ndarray, "n_pairs"], Int64[np.ndarray, "n_pairs"], Float64[np.ndarray, "n_pairs"]]:
    """All ordered pairs of latents in which one implies the other, weighted by activation.

    `W(p|c) = sum_{i: both fire} a_c,i / sum_{i: c fires} a_c,i` is the share of `c`'s activation on images on which `p`
    fires as well (arXiv 2606.22994: the implication, weighted by `a_c`).

    Time is proportional to the sum over the images of the squared number of firing latents. Memory holds one block of
    pairs, and the pairs that are kept.

    Args:
        firings: activations of every latent.
        is_eligible: latents that may be in a pair; dead latents never are.
        least: keep pairs with `W(p|c) >= least`; must be greater than 0.
        check: called for every block of latents; may raise to stop.

    Returns:
        `c`, `p` and `W(p|c)` of every kept pair, sorted by `c`, then `p`.
    """
    eligible = np.flatnonzero(is_eligible & (firings.n_fire > 0))
    shape = (firings.n_latents, firings.n_images)
    mass = sp.csr_array((firings.activation.astype(np.float64), firings.image, firings.indptr), shape=shape)[eligible]
    fires = sp.csr_array((np.ones(mass.nnz), mass.indices, mass.indptr), shape=mass.shape).T.tocsr()
    height = max(1, _BLOCK_PAIRS // max(1, len(eligible)))

    def find(rows: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Row c of the product sums a_c over the images on which p fires, in the same order as the mass of c was summed:
        # if p fires on all images of c, the share is exactly 1.
        both = mass[rows] @ fires
        c = np.repeat(np.arange(rows.start, rows.start + both.shape[0]), np.diff(both.indptr))
        share = both.data / firings.mass[eligible[c]]
        at = np.flatnonzero((share >= least) & (c != both.indices))
        return eligible[c[at]], eligible[both.indices[at]], share[at]

    kept = []
    for found in map_blocks(find, (slice(first, first + height) for first in range(0, len(eligible), height)), "cpu"):
        check()
        kept.append(found)
    if not kept:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    child, parent, share = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    order = np.lexsort((parent, child))
    return child[order], parent[order], share[order]


def overlaps(
    firings: Firings, child: Int[np.ndarray, "n_pairs"], parent: Int[np.ndarray, "n_pairs"]
) -> Iterator[tuple[slice, Overlap]]:
    """Iterate over pairs of latents, in blocks with a bounded number of firings of the children.

    Yields:
        The block of pairs, and their overlap; `Overlap.pair` counts from the start of the block.
    """
    if not len(firings.key):
        return
    ends = np.concatenate(([0], np.cumsum(firings.n_fire[child])))
    for pairs in latent_blocks(ends):
        entry, pair = firings.entries(child[pairs])
        wanted = parent[pairs].astype(np.int64)[pair] * firings.n_images + firings.image[entry]
        found = np.minimum(np.searchsorted(firings.key, wanted), len(firings.key) - 1)
        both = np.flatnonzero(firings.key[found] == wanted)
        yield pairs, Overlap(pair[both], entry[both], found[both])


def cofiring(
    firings: Firings,
    child: Int[np.ndarray, "n_pairs"],
    parent: Int[np.ndarray, "n_pairs"],
    *,
    check: Callable[[], None] = go_on,
) -> Cofiring:
    """Compare the two latents of every pair on the images on which both fire.

    Args:
        firings: activations of every latent.
        child: child of every pair; pairs may have any order.
        parent: parent of every pair.
        check: called for every block of pairs; may raise to stop.
    """
    n_pairs = len(child)
    n_both = np.zeros(n_pairs, np.int64)
    child_mass, parent_mass, n_dominant = np.zeros(n_pairs), np.zeros(n_pairs), np.zeros(n_pairs)
    correlation = np.full(n_pairs, np.nan)
    for pairs, both in overlaps(firings, child, parent):
        check()
        width = pairs.stop - pairs.start
        a_c, a_p = firings.activation[both.child], firings.activation[both.parent]
        n_both[pairs] = np.bincount(both.pair, minlength=width)
        child_mass[pairs] = np.bincount(both.pair, a_c, minlength=width)
        parent_mass[pairs] = np.bincount(both.pair, a_p, minlength=width)
        n_dominant[pairs] = np.bincount(both.pair, a_p > a_c, minlength=width)
        correlation[pairs] = grouped_spearman(both.pair, a_p, a_c, width)
    dominance = n_dominant / np.where(n_both > 0, n_both, np.nan)
    return Cofiring(n_both, child_mass, parent_mass, dominance, correlation)


def grouped_spearman(
    group: Int64[np.ndarray, "n"], x: Float32[np.ndarray, "n"], y: Float32[np.ndarray, "n"], n_groups: int
) -> Float64[np.ndarray, "n_groups"]:
    """Spearman's rank correlation of `x` and `y` within every group; tied values have their mid-rank.

    It is Pearson's correlation of the mid-ranks, as in `scipy.stats.spearmanr`. NaN for a group with fewer than 3
    entries, or in which `x` or `y` is constant.

    Args:
        group: group of every entry, ascending.
        x: not negative.
        y: not negative.
        n_groups: number of groups, including empty ones.
    """
    deviation_x, deviation_y = _rank_deviations(group, x, n_groups), _rank_deviations(group, y, n_groups)
    product, square_x, square_y = (
        np.bincount(group, terms, minlength=n_groups)
        for terms in (deviation_x * deviation_y, deviation_x**2, deviation_y**2)
    )
    size = np.bincount(group, minlength=n_groups)
    is_defined = (size >= MIN_IMAGES) & (square_x > 0) & (square_y > 0)
    length = np.sqrt(square_x * square_y)
    return np.where(is_defined, np.clip(product / np.where(is_defined, length, 1.0), -1.0, 1.0), np.nan)


def _rank_deviations(
    group: Int64[np.ndarray, "n"], value: Float32[np.ndarray, "n"], n_groups: int
) -> Float64[np.ndarray, "n"]:
    """Twice the mid-rank of every entry in its group (strongest first), minus the group's mean; integers."""
    order, first_of_tie, tie = (
        part.numpy() for part in strongest_first(torch.from_numpy(group), torch.from_numpy(value))
    )
    n_tied = np.diff(first_of_tie, append=len(order))
    size = np.bincount(group, minlength=n_groups)
    start = np.cumsum(size) - size
    owner = group[first_of_tie]  # the order keeps the entries of a group together
    # t tied entries after s stronger ones have ranks s+1 .. s+t: twice their mean is 2s + t + 1; of all n, n + 1.
    deviation = np.empty(len(order))
    deviation[order] = (2 * (first_of_tie - start[owner]) + n_tied - size[owner])[tie]
    return deviation
