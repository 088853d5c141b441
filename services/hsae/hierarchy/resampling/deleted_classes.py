"""The headline numbers of a basis with a fifth of the classes deleted, a hundred times.

A replicate deletes the images of some classes and recomputes every number; which latent stands for a node, which images
are a latent's strongest, and which nodes count stay those of the whole analysis. A number that rests on few classes, or
on classes that all depend on one part of the tree, then varies between the replicates, however many latents or nodes
it is the mean of.
"""

import hashlib
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64

from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.excess import excess_of, null_mean
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.resampling.lowest_hypernyms import LowestHypernyms
from hsae.hierarchy.resampling.measured import (
    MIN_LCH_FIRES,
    Measured,
    distinct_nodes,
    fire_counts,
    is_inner,
    mean_defined,
    members_of,
)
from hsae.hierarchy.resampling.resampled import Headline, Quantity
from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1
from hsae.hierarchy.statistics.label_sets import classes_of, closure_of_sets
from hsae.taxonomy import InducedTaxonomy

DELETED_SHARE = 0.2
"""Share of the classes that a replicate deletes."""

Keep = Bool[np.ndarray, "n_replicates n_classes"]


def kept_classes(taxonomy: InducedTaxonomy, n_replicates: int, seed: int) -> Keep:
    """The classes that each replicate keeps: all but a fifth of them, at least one (rounded).

    They depend on the seed and on the taxonomy's classes alone, so that every basis, layer and SAE on these classes has
    the same: differences between them are then paired.

    Args:
        taxonomy: the induced taxonomy.
        n_replicates: number of replicates.
        seed: seed of NumPy's `Generator(PCG64)`, together with the sha256 of the classes' ids.
    """
    names = "\n".join(taxonomy.synsets[node].id for node in taxonomy.classes)
    own = int.from_bytes(hashlib.sha256(names.encode()).digest()[:16], "big")
    rng = np.random.Generator(np.random.PCG64([seed, own]))
    n_classes = len(taxonomy.classes)
    n_deleted = max(1, round(DELETED_SHARE * n_classes))
    keep = np.ones((n_replicates, n_classes), np.bool_)
    for row in keep:
        row[rng.permutation(n_classes)[:n_deleted]] = False
    return keep


def replicate_headlines(
    measured: Measured, keep: Keep, *, check: Callable[[], None] = go_on
) -> dict[Headline, Quantity]:
    """Every headline number that needs no more than counts, in every replicate.

    An image of several classes loses the labels of the deleted ones, and is deleted with its last label (ours). LCH
    excess compares the classes that are left with as many random ones of the whole tree.

    Args:
        measured: the basis.
        keep: from `kept_classes`; for a shuffled taxonomy with its columns permuted like the classes.
        check: called between the numbers; may raise to stop.
    """
    rows = np.concatenate((np.ones((1, keep.shape[1]), np.bool_), keep))  # the first is the value itself
    found: dict[Headline, tuple[Float64[np.ndarray, "n_rows"], int]] = {}
    found |= _f1(measured, rows)
    check()
    image_kept = _kept_images(measured, rows)
    found |= _purity(measured, image_kept, rows)
    check()
    found |= _coherence(measured, rows, check)
    found |= _lch_excess(measured, rows, check)
    return {
        metric: Quantity(float(values[0]), n, np.ascontiguousarray(values[1:])) for metric, (values, n) in found.items()
    }


def _f1(measured: Measured, rows: Keep) -> dict[Headline, tuple[np.ndarray, int]]:
    nodes = distinct_nodes(measured.score, measured.taxonomy)
    chosen = measured.node_best_latent[nodes]
    counts = fire_counts(measured.score)[np.maximum(chosen, 0)]
    n_both, n_fire, n_node, n_images = _node_counts(measured, counts, nodes, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2.0 * n_both / (n_fire + n_node)
    f1[chosen < 0] = 0.0
    adjusted = np.full(f1.shape, np.nan)
    for row, n in enumerate(n_images):
        if n > 0:
            adjusted[:, row] = adjusted_f1(f1[:, row], n_node[:, row], int(n))
    inner = is_inner(nodes, measured.taxonomy)
    return {
        "f1_adjusted_inner_mean": (mean_defined(adjusted[inner].T), int((~np.isnan(adjusted[inner, 0])).sum())),
        "f1_adjusted_mean": (mean_defined(adjusted.T), int((~np.isnan(adjusted[:, 0])).sum())),
    }


def _node_counts(
    measured: Measured, counts: "sp.csr_array[np.float64]", nodes: Int64[np.ndarray, "n_nodes"], rows: Keep
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """By node and row: `n_both` and `N_j` of its latent, `n_v`; by row `N`.

    Args:
        measured: the basis.
        counts: firing counts of every node's latent, by class or label set.
        nodes: the nodes.
        rows: kept classes.
    """
    sums, sizes = measured.score, measured.score.class_sizes.astype(np.float64)
    if sums.set_indptr is None:
        under = sp.csr_array(sums.closure(measured.taxonomy)[:, nodes].T.astype(np.float64))
        keep = rows.T.astype(np.float64)
        return (
            np.asarray(under.multiply(counts).tocsr() @ keep),
            np.asarray(counts @ keep),
            np.asarray(under @ (sizes[:, None] * keep)),
            (sizes[:, None] * keep).sum(axis=0),
        )
    members = members_of(sums, measured.n_classes)
    n_both, n_fire, n_node = (np.empty((len(nodes), len(rows))) for _ in range(3))
    n_images = np.empty(len(rows))
    for row, kept in enumerate(rows):
        left = sp.csr_array(members.multiply(kept[None]))
        left.eliminate_zeros()
        is_left = np.diff(left.indptr) > 0
        under = sp.csr_array(closure_of_sets(left, measured.taxonomy)[:, nodes].T.astype(np.float64))
        n_both[:, row] = np.asarray(under.multiply(counts).sum(axis=1)).ravel()
        n_fire[:, row] = counts @ is_left.astype(np.float64)
        n_node[:, row] = np.asarray(under @ sizes)
        n_images[row] = sizes[is_left].sum()
    return n_both, n_fire, n_node, n_images


def _kept_images(measured: Measured, rows: Keep) -> Bool[np.ndarray, "n_rows n_images"]:
    """Whether an image has a kept class."""
    n_images = measured.labels.shape[0]
    if not sp.issparse(measured.labels):
        return np.asarray(rows[:, measured.labels])
    image, classes = classes_of(measured.labels, np.arange(n_images))
    kept = np.zeros((len(rows), n_images), np.bool_)
    for row, keep in enumerate(rows):
        kept[row, image[keep[classes]]] = True
    return kept


def _purity(
    measured: Measured, image_kept: Bool[np.ndarray, "n_rows n_images"], rows: Keep
) -> dict[Headline, tuple[np.ndarray, int]]:
    """`P_j = sum_a w_a (w_a - 1) / (m (m - 1))` over the `m` strongest images that are kept."""
    top = measured.top_images
    latent, place = np.nonzero(top >= 0)
    entry, classes = classes_of(measured.labels, top[latent, place])
    shape = (len(top), measured.n_classes)
    w = sp.csr_array((np.ones(len(entry)), (latent[entry], classes)), shape=shape)
    w.sum_duplicates()
    w.data *= w.data - 1.0
    same = np.asarray(w @ rows.T.astype(np.float64))
    m = np.stack([np.bincount(latent[kept[top[latent, place]]], minlength=len(top)) for kept in image_kept], axis=1)
    purity = np.where(m > 1, same / np.where(m > 1, m * (m - 1.0), 1.0), np.nan)
    return {"purity_mean": (mean_defined(purity.T), int((m[:, 0] > 1).sum()))}


def _coherence(measured: Measured, rows: Keep, check: Callable[[], None]) -> dict[Headline, tuple[np.ndarray, int]]:
    pairs = top_class_pairs(measured.top_images, measured.labels, measured.resnik)
    n_fire = _latent_fires(measured, rows)
    has_images = measured.has_images()
    values = np.empty((2, len(rows)))
    n = 0
    for row, keep in enumerate(rows):
        check()
        coherence = pairs.coherence(keep)
        values[:, row] = excess_of(coherence, null_mean(measured.resnik, keep & has_images), n_fire[:, row])
        n = n if row else int(np.isfinite(coherence).sum())
    return {"coherence_excess": (values[0], n), "coherence_excess_weighted": (values[1], n)}


def _latent_fires(measured: Measured, rows: Keep) -> Float64[np.ndarray, "n_latents n_rows"]:
    """`N_j` over the images that are kept."""
    counts = fire_counts(measured.score)
    members = members_of(measured.score, measured.n_classes)
    items_kept = (members.astype(np.float64) @ rows.T.astype(np.float64)) > 0
    return np.asarray(counts @ items_kept.astype(np.float64))


def _lch_excess(measured: Measured, rows: Keep, check: Callable[[], None]) -> dict[Headline, tuple[np.ndarray, int]]:
    """Mean over latents of `E_K[log2 |L_LCH|] - log2 |L_lch(j)|`, of those with two classes and 16 firings or more."""
    eligible = measured.score.latent_fire_counts() >= MIN_LCH_FIRES
    sets = sp.csr_array(measured.associated[eligible])
    if sets.nnz == 0:
        return {"lch_excess_mean": (np.full(len(rows), np.nan), 0)}
    leaf_counts = np.asarray(measured.taxonomy.leaf_counts)
    log2 = np.log2(leaf_counts)
    lowest = LowestHypernyms(measured.taxonomy)
    expected = lowest.expected_log2(leaf_counts, int(np.diff(sets.indptr).max()), measured.seed)
    values = np.empty(len(rows))
    n = 0
    for row, keep in enumerate(rows):
        check()
        is_left = keep[sets.indices]
        indptr = np.concatenate(([0], np.cumsum(is_left)))[sets.indptr]
        size = np.diff(indptr)
        nodes = lowest.of_sets(indptr, sets.indices[is_left])
        several = size > 1
        excess = expected[size[several]] - log2[nodes[several]]
        values[row] = excess.mean() if len(excess) else np.nan
        n = n if row else len(excess)
    return {"lch_excess_mean": (values, n)}
