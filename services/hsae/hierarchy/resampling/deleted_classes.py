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

from hsae.hierarchy.coherence.excess import excess_of
from hsae.hierarchy.coherence.lch_excess import MIN_FIRED
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.kernels.parallel_blocks import map_blocks
from hsae.hierarchy.resampling.measured import Measured, fire_counts, mean_defined, members_of
from hsae.hierarchy.resampling.resampled import Headline, Quantity
from hsae.hierarchy.scores.adjusted_f1 import node_adjusted_f1
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
    excess compares the classes that are left with as many random ones of all classes with score images.

    Args:
        measured: the basis.
        keep: from `kept_classes`; for a shuffled taxonomy with its columns permuted like the classes.
        check: called between the numbers; may raise to stop.
    """
    rows = np.concatenate((np.ones((1, keep.shape[1]), np.bool_), keep))  # the first is the value itself
    found: dict[Headline, tuple[Float64[np.ndarray, "n_rows"], int]] = {}
    found |= _f1(measured, rows)
    check()
    found |= _purity(measured, rows)
    check()
    found |= _coherence(measured, rows, check)
    found |= _lch_excess(measured, rows, check)
    return {
        metric: Quantity(float(values[0]), n, np.ascontiguousarray(values[1:])) for metric, (values, n) in found.items()
    }


def _f1(measured: Measured, rows: Keep) -> dict[Headline, tuple[np.ndarray, int]]:
    nodes = np.flatnonzero(measured.nodes.counts)
    chosen = measured.node_best_latent[nodes]
    counts = fire_counts(measured.score)[np.maximum(chosen, 0)]
    n_both, n_fire, n_node, n_images = _node_counts(measured, counts, nodes, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2.0 * n_both / (n_fire + n_node)
    f1[chosen < 0] = 0.0
    adjusted = np.full(f1.shape, np.nan)
    for row, n in enumerate(n_images):
        if n > 0:
            adjusted[:, row] = node_adjusted_f1(f1[:, row], n_node[:, row], int(n))
    inner = measured.nodes.strata()[2][nodes]
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


def _purity(measured: Measured, rows: Keep) -> dict[Headline, tuple[np.ndarray, int]]:
    """`purity` of the strongest images, by the labels that are kept."""
    top, n_images, n_classes = measured.top_images, measured.labels.shape[0], measured.n_classes
    keep = rows.T.astype(np.float64)
    image, classes = classes_of(measured.labels, np.arange(n_images))
    labels = sp.csr_array((np.ones(len(image)), (image, classes)), shape=(n_images, n_classes))
    latent, place = np.nonzero(top >= 0)
    strongest = sp.csr_array((np.ones(len(latent)), (latent, top[latent, place])), shape=(len(top), n_images))
    w = sp.csr_array(strongest @ labels)
    kept = np.asarray(labels @ keep)
    n_pairs = np.asarray(w @ keep) ** 2 - np.asarray(strongest @ kept**2)  # less those of labels of one image
    w.data *= w.data - 1.0
    purity = np.asarray(w @ keep) / np.where(n_pairs > 0, n_pairs, np.nan)
    return {"purity_mean": (mean_defined(purity.T), int((n_pairs[:, 0] > 0).sum()))}


def _coherence(measured: Measured, rows: Keep, check: Callable[[], None]) -> dict[Headline, tuple[np.ndarray, int]]:
    values, n = np.full((2, len(rows)), np.nan), 0
    chance = measured.chance
    if chance is not None:
        n_fire = _latent_fires(measured, rows)
        coherences = measured.pairs(chance).coherences(list(rows), check=check)
        for row, (keep, coherence) in enumerate(zip(rows, coherences, strict=True)):
            values[:, row] = excess_of(coherence, measured.chances.mean(keep & chance.keep), n_fire[:, row])
        n = int(np.isfinite(coherences[0]).sum())
    return {"coherence_excess": (values[0], n), "coherence_excess_weighted": (values[1], n)}


def _latent_fires(measured: Measured, rows: Keep) -> Float64[np.ndarray, "n_latents n_rows"]:
    """`N_j` over the images that are kept."""
    counts = fire_counts(measured.score)
    members = members_of(measured.score, measured.n_classes)
    items_kept = (members.astype(np.float64) @ rows.T.astype(np.float64)) > 0
    return np.asarray(counts @ items_kept.astype(np.float64))


def _lch_excess(measured: Measured, rows: Keep, check: Callable[[], None]) -> dict[Headline, tuple[np.ndarray, int]]:
    """Mean over latents of `lch_excess` of the classes that are kept; latents keep their 16 firings."""
    values, n = np.full(len(rows), np.nan), 0
    chance = measured.chance
    if chance is not None:
        sets = sp.csr_array(measured.top_classes[measured.score.latent_fire_counts() >= MIN_FIRED])

        def of_replicates(replicates: slice) -> list[tuple[float, int]]:
            found = []
            for keep in rows[replicates]:
                is_left = keep[sets.indices]
                indptr = np.concatenate(([0], np.cumsum(is_left)))[sets.indptr]
                size = np.diff(indptr)
                several = size > 1
                lowest = chance.hypernyms.of_sets(indptr, sets.indices[is_left])[several]
                excess = chance.lch_bits[size[several] - 1] - chance.hypernyms.log_classes[lowest]
                found.append((float(excess.mean()) if len(excess) else np.nan, len(excess)))
            return found

        each = (slice(row, row + 1) for row in range(len(rows)))
        for row, ((value, n_latents),) in enumerate(map_blocks(of_replicates, each, "cpu")):
            check()
            values[row] = value
            n = n if row else n_latents
    return {"lch_excess_mean": (values, n)}
