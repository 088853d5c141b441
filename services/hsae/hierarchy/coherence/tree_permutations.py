"""The coherence of a whole layer when the classes are permuted over the tree: a test that keeps latents together."""

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float64, Int32, Int64

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.coherence.latent_p import ROUNDING
from hsae.hierarchy.coherence.resnik import ResnikSimilarity
from hsae.hierarchy.kernels.blocks import go_on
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
_BLOCK_ROWS = 32


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
    weights: "Sequence[sp.csr_array[np.float64]]",
    resnik: ResnikSimilarity,
    n_images: Int64[np.ndarray, "n_classes"],
    keep: Bool[np.ndarray, "n_classes"],
    seed: int,
    *,
    check: Callable[[], None] = go_on,
) -> list[float]:
    """P(mean coherence of a layer is at least the observed one) when the classes are permuted over the tree.

    `Tbar = sum_{a<b} Wbar_ab s_ab` with `Wbar` the mean of the latents' weights `c_ab`. Every permutation moves the
    classes for all latents at once, so that it keeps how the latents depend on one another. Classes move within strata
    of their size (`size_strata`), because latents answer to large classes more often, and large classes may lie close
    in the tree. `p = (1 + #{Tbar_permuted >= Tbar}) / (1 + 999)`, one-sided (ours).

    Args:
        weights: `Wbar` of every basis, from `mean_weights`. A permuted tree costs as much for one as for many.
        resnik: the similarities of all classes.
        n_images: number of scored images of every class.
        keep: the classes with scored images, which are permuted.
        seed: of the permutations.
        check: called for every few permutations; may raise to stop.

    Returns:
        For every basis a multiple of 1/1000; NaN where no latent has a pair.
    """
    places = permutations_within(size_strata(n_images, keep), seed)
    identity = np.arange(places.shape[1], dtype=np.int32)[np.newaxis]
    values = permuted_coherence(weights, resnik, np.flatnonzero(keep), np.concatenate((identity, places)), check=check)
    # The observed one counts, too.
    shares = (values >= values[:, :1] - ROUNDING).sum(axis=1) / values.shape[1]
    return [float(share) if of_basis.nnz else float("nan") for share, of_basis in zip(shares, weights, strict=True)]


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
    weights: "Sequence[sp.csr_array[np.float64]]",
    resnik: ResnikSimilarity,
    classes: Int64[np.ndarray, "n_present"],
    permutations: Int32[np.ndarray, "n_permutations n_present"],
    *,
    check: Callable[[], None] = go_on,
) -> Float64[np.ndarray, "n_bases n_permutations"]:
    """`sum_{a<b} Wbar_ab s_{pi(a) pi(b)}` for every permutation; the same bits whatever the number of threads.

    Args:
        weights: `Wbar` of every basis, above the diagonal.
        resnik: the similarities of all classes.
        classes: the class of every row of `weights`.
        permutations: the row whose place in the tree each row takes.
        check: called for every few permutations; may raise to stop.
    """
    make = _by_rows if len(classes) <= _DENSE_CLASSES else _by_pairs
    of_permutations = make(weights, resnik, classes)
    tasks = (slice(first, first + _PER_TASK) for first in range(0, len(permutations), _PER_TASK))
    values = [np.empty((len(weights), 0))]
    for of_task in map_blocks(lambda task: of_permutations(permutations[task]), tasks, "cpu"):
        check()
        values.append(of_task)
    return np.concatenate(values, axis=1)


_Traces = Callable[[Int32[np.ndarray, "n n_present"]], Float64[np.ndarray, "n_bases n"]]


def _by_rows(
    weights: "Sequence[sp.csr_array[np.float64]]", resnik: ResnikSimilarity, classes: Int64[np.ndarray, "n_present"]
) -> _Traces:
    n = len(classes)
    similarity = resnik.of(classes[:, np.newaxis], classes)
    blocks = [slice(first, min(first + _BLOCK_ROWS, n)) for first in range(0, n, _BLOCK_ROWS)]
    dense = [
        torch.from_numpy(np.stack([of_basis[rows, rows.start :].toarray().ravel() for of_basis in weights]))
        for rows in blocks
    ]

    def traces(permutations: Int32[np.ndarray, "n n_present"]) -> Float64[np.ndarray, "n_bases n"]:
        total = torch.zeros(len(weights), len(permutations), dtype=torch.float64)
        moved = np.empty((len(permutations), _BLOCK_ROWS * n))
        for rows, of_rows in zip(blocks, dense, strict=True):  # the rows of a permutation fit the cache
            width = n - rows.start
            cells = moved[:, : (rows.stop - rows.start) * width]
            for places, out in zip(permutations, cells, strict=True):
                permuted = similarity.take(places[rows], axis=0)
                permuted.take(places[rows.start :], axis=1, out=out.reshape(-1, width), mode="clip")
            total += of_rows @ torch.from_numpy(cells).T
        return total.numpy()

    return traces


def _by_pairs(
    weights: "Sequence[sp.csr_array[np.float64]]", resnik: ResnikSimilarity, classes: Int64[np.ndarray, "n_present"]
) -> _Traces:
    occurring = sum(weights, sp.csr_array(weights[0].shape)).tocoo()  # no weight is negative
    left, right = occurring.coords
    of_pairs = sp.csr_array(sp.vstack([sp.csr_array(of_basis[left, right][np.newaxis]) for of_basis in weights]))

    def traces(permutations: Int32[np.ndarray, "n n_present"]) -> Float64[np.ndarray, "n_bases n"]:
        moved = (classes[places] for places in permutations)
        return np.stack([of_pairs @ resnik.of(places[left], places[right]) for places in moved], axis=1)

    return traces
