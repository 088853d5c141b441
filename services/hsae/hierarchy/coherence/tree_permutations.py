"""The coherence of a whole layer when the classes are permuted over the tree: a test that keeps latents together."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int32, Int64

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.coherence.latent_p import ROUNDING
from hsae.hierarchy.coherence.resnik import ResnikSimilarity
from hsae.hierarchy.kernels.parallel_blocks import map_blocks

N_PERMUTATIONS = 999
N_STRATA = 5
MIN_STRATUM = 8
"""Classes per stratum on average, at least: smaller strata leave too few permutations."""

_STREAM = 2
"""Keeps the permutations apart from other random numbers of the same seed."""
_PER_TASK = 16
_DENSE_CLASSES = 2048
"""Up to here a whole row of similarities is permuted at once; above, memory holds the occurring pairs alone."""
_BLOCK_ROWS = 128


def size_strata(
    n_images: Int64[np.ndarray, "n_classes"], keep: Bool[np.ndarray, "n_classes"]
) -> Int64[np.ndarray, "n_present"]:
    """The stratum of every kept class, by its number of scored images: quintiles.

    Classes of the same size are in the same stratum. With fewer than `N_STRATA * MIN_STRATUM` kept classes there are
    fewer strata; with classes of one size there is one (ours).

    Args:
        n_images: number of scored images of every class.
        keep: the classes that are permuted.
    """
    sizes = n_images[keep]
    n_strata = max(1, min(N_STRATA, len(sizes) // MIN_STRATUM))
    ordered = np.sort(sizes)
    cuts = [ordered[len(sizes) * part // n_strata] for part in range(1, n_strata)]
    return np.unique(np.searchsorted(cuts, sizes, side="right"), return_inverse=True)[1].astype(np.int64)


def permutations_within(
    strata: Int64[np.ndarray, "n_present"], seed: int, *, n_permutations: int = N_PERMUTATIONS
) -> Int32[np.ndarray, "n_permutations n_present"]:
    """Random permutations that move a class to the place of a class of its stratum only.

    Args:
        strata: stratum of every class.
        seed: of the permutations.
        n_permutations: number of permutations.
    """
    rng = np.random.Generator(np.random.PCG64((seed, _STREAM)))
    places = np.tile(np.arange(len(strata), dtype=np.int32), (n_permutations, 1))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        places[:, members] = rng.permuted(places[:, members], axis=1)
    return places


def layer_p(
    pairs: ClassPairs,
    n_images: Int64[np.ndarray, "n_classes"],
    keep: Bool[np.ndarray, "n_classes"],
    seed: int,
) -> float:
    """P(mean coherence of the layer is at least the observed one) when the classes are permuted over the tree.

    `Tbar = sum_{a<b} Wbar_ab s_ab` with `Wbar` the mean of the latents' weights `c_ab`. Every permutation moves the
    classes for all latents at once, so that it keeps how the latents depend on one another. Classes move within strata
    of their size (`size_strata`), because latents answer to large classes more often, and large classes may lie close
    in the tree. `p = (1 + #{Tbar_permuted >= Tbar}) / (1 + 999)`, one-sided (ours).

    Args:
        pairs: the pairs of the latents.
        n_images: number of scored images of every class.
        keep: the classes with scored images, which are permuted.
        seed: of the permutations.

    Returns:
        A multiple of 1/1000; NaN where no latent has a pair.
    """
    weights = mean_weights(pairs, keep)
    if weights.nnz == 0:
        return float("nan")
    permutations = permutations_within(size_strata(n_images, keep), seed)
    identity = np.arange(weights.shape[0], dtype=np.int32)[np.newaxis]
    values = permuted_coherence(weights, pairs.resnik, np.flatnonzero(keep), np.concatenate((identity, permutations)))
    return float((values >= values[0] - ROUNDING).sum()) / len(values)  # the observed one counts, too


def mean_weights(pairs: ClassPairs, keep: Bool[np.ndarray, "n_classes"]) -> "sp.csr_array[np.float64]":
    """`Wbar`, the mean of the weights `c_ab` of the latents with a pair: [n_present, n_present], above the diagonal.

    Args:
        pairs: the pairs of the latents, all of kept classes.
        keep: the classes that rows and columns stand for.
    """
    n_present, n_latents = int(keep.sum()), 0
    position = np.cumsum(keep) - 1
    total = sp.csr_array((n_present, n_present), dtype=np.float64)
    for block in pairs.blocks:
        left, right = block.pairs()
        share = block.shares()
        has_pair = np.isfinite(share).all(axis=1)
        classes = position[block.classes[has_pair]]
        low, high = classes[:, left], classes[:, right]
        cells = (np.minimum(low, high).ravel(), np.maximum(low, high).ravel())
        total = sp.csr_array(total + sp.coo_array((share[has_pair].ravel(), cells), shape=total.shape).tocsr())
        n_latents += int(has_pair.sum())
    total.eliminate_zeros()  # images of two classes can leave a pair without weight
    total.data /= max(1, n_latents)
    return total


def permuted_coherence(
    weights: "sp.csr_array[np.float64]",
    resnik: ResnikSimilarity,
    classes: Int64[np.ndarray, "n_present"],
    permutations: Int32[np.ndarray, "n_permutations n_present"],
) -> Float64[np.ndarray, " n_permutations"]:
    """`sum_{a<b} Wbar_ab s_{pi(a) pi(b)}` for every permutation; the same bits whatever the number of threads.

    Args:
        weights: `Wbar`, above the diagonal.
        resnik: the similarities of all classes.
        classes: the class of every row of `weights`.
        permutations: the row whose place in the tree each row takes.
    """
    by_row = (
        _by_rows(weights, resnik, classes) if len(classes) <= _DENSE_CLASSES else _by_pairs(weights, resnik, classes)
    )

    def several(block: slice) -> list[float]:
        return [by_row(places) for places in permutations[block]]

    tasks = (slice(first, first + _PER_TASK) for first in range(0, len(permutations), _PER_TASK))
    return np.array([value for values in map_blocks(several, tasks, "cpu") for value in values])


_Trace = Callable[[Int32[np.ndarray, "n_present"]], float]


def _by_rows(
    weights: "sp.csr_array[np.float64]", resnik: ResnikSimilarity, classes: Int64[np.ndarray, "n_present"]
) -> _Trace:
    dense = weights.toarray()
    similarity = resnik.of(classes[:, np.newaxis], classes)

    def trace(places: Int32[np.ndarray, "n_present"]) -> float:
        total = 0.0
        for first in range(0, len(places), _BLOCK_ROWS):  # of a block of rows that fits the cache
            rows = slice(first, first + _BLOCK_ROWS)
            permuted = similarity.take(places[rows], axis=0).take(places[first:], axis=1)
            total += float((dense[rows, first:] * permuted).sum())
        return total

    return trace


def _by_pairs(
    weights: "sp.csr_array[np.float64]", resnik: ResnikSimilarity, classes: Int64[np.ndarray, "n_present"]
) -> _Trace:
    pairs = weights.tocoo()
    left, right, weight = pairs.coords[0], pairs.coords[1], pairs.data

    def trace(places: Int32[np.ndarray, "n_present"]) -> float:
        moved = classes[places]
        return float((weight * resnik.of(moved[left], moved[right])).sum())

    return trace
