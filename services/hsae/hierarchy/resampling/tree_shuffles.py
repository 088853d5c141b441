"""The numbers of a basis with the classes permuted over the tree: what a tree without meaning gives."""

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64

from hsae.hierarchy.coherence.excess import excess_of
from hsae.hierarchy.coherence.lch_excess import MIN_FIRED
from hsae.hierarchy.controls.shuffles import class_places
from hsae.hierarchy.kernels.blocks import go_on
from hsae.hierarchy.resampling.measured import Measured
from hsae.hierarchy.resampling.resampled import ShuffledTrees, TreeNumber
from hsae.hierarchy.resampling.shuffled_nodes import ClassOrder, shuffled_f1
from hsae.hierarchy.statistics.lowest_hypernyms import LowestHypernyms

_LOWER_IS_TREE: frozenset[TreeNumber] = frozenset({"lch_height_mean"})
"""Numbers that a latent which follows the tree makes smaller; the others it makes greater."""


def shuffle_headlines(
    measured: Measured, n_shuffles: int, *, check: Callable[[], None] = go_on
) -> dict[TreeNumber, ShuffledTrees]:
    """Every headline number that depends on the tree, and F1 of the nodes, under permutations of the classes over it.

    The first permutation has the seed `measured.seed`, the next `measured.seed + 1`, like the control
    `shuffled_taxonomy`. The numbers are those of a full analysis of the permuted labels, to the last digits.

    Args:
        measured: the basis.
        n_shuffles: number of permutations.
        check: called for every permutation and number; may raise to stop.
    """
    present = measured.has_images()
    shuffled = (class_places(present, measured.seed + i) for i in range(n_shuffles))
    permutations = [np.arange(measured.n_classes), *shuffled]
    found: dict[TreeNumber, np.ndarray] = {}
    found |= _coherence(measured, permutations, check)
    found |= _lowest(measured, permutations, check)
    found |= shuffled_f1(measured, permutations, check=check)
    return {metric: _beside(metric, values) for metric, values in found.items()}


def _beside(metric: TreeNumber, values: Float64[np.ndarray, " n_permutations"]) -> ShuffledTrees:
    value, shuffled = float(values[0]), np.ascontiguousarray(values[1:])
    sign = -1.0 if metric in _LOWER_IS_TREE else 1.0
    # Sums of the same terms in another order differ in their last digits; such a value is as good.
    n_as_good = int((sign * (shuffled - value) >= -1e-12).sum())
    is_there = not np.isnan(value) and len(shuffled) > 0 and not np.isnan(shuffled).any()
    return ShuffledTrees(value, shuffled, (1 + n_as_good) / (1 + len(shuffled)) if is_there else float("nan"))


def _coherence(
    measured: Measured, permutations: list[ClassOrder], check: Callable[[], None]
) -> dict[TreeNumber, np.ndarray]:
    """`s_ab` of two classes becomes the similarity of the places that they get."""
    values = np.full((2, len(permutations)), np.nan)
    chance = measured.chance
    if chance is not None:
        n_fire = measured.score.latent_fire_counts()
        coherences = measured.pairs(chance).moved_coherences(permutations, check=check)
        for row, (class_order, coherence) in enumerate(zip(permutations, coherences, strict=True)):
            values[:, row] = excess_of(coherence, measured.chances.mean(_at(class_order, chance.keep)), n_fire)
    return {"coherence_excess": values[0], "coherence_excess_weighted": values[1]}


def _at(class_order: ClassOrder, of_class: Bool[np.ndarray, "n_classes"]) -> Bool[np.ndarray, "n_classes"]:
    """Of every place in the tree, what holds for the class that is there."""
    of_place = np.empty_like(of_class)
    of_place[class_order] = of_class
    return of_place


def _lowest(
    measured: Measured, permutations: list[ClassOrder], check: Callable[[], None]
) -> dict[TreeNumber, np.ndarray]:
    """LCH height and coverage over all latents with classes; LCH excess over those with support."""
    taxonomy, chance = measured.taxonomy, measured.chance
    sets, top = sp.csr_array(measured.associated), sp.csr_array(measured.top_classes)
    size, n_top = np.diff(sets.indptr), np.diff(top.indptr)
    eligible = (measured.score.latent_fire_counts() >= MIN_FIRED) & (n_top > 1)
    leaf_counts, height = np.asarray(taxonomy.leaf_counts), np.asarray(taxonomy.height, np.float64)
    lowest = LowestHypernyms(taxonomy) if chance is None else chance.hypernyms
    heights, coverage, excess = (np.full(len(permutations), np.nan) for _ in range(3))
    for row, class_order in enumerate(permutations):
        check()
        nodes = lowest.of_sets(sets.indptr, class_order[sets.indices])
        placed = nodes >= 0
        if placed.any():
            heights[row] = height[nodes[placed]].mean()
            coverage[row] = (size[placed] / leaf_counts[nodes[placed]]).mean()
        if chance is not None and eligible.any():
            if measured.top_classes is not measured.associated:
                nodes = lowest.of_sets(top.indptr, class_order[top.indices])
            expected = measured.chances.lch_bits(_at(class_order, chance.keep), len(chance.lch_bits))
            excess[row] = (expected[n_top[eligible] - 1] - lowest.log_classes[nodes[eligible]]).mean()
    return {"lch_excess_mean": excess, "lch_height_mean": heights, "coverage_mean": coverage}


def quantiles(shuffled: Float64[np.ndarray, " n_shuffles"]) -> tuple[float, float, float, float]:
    """Mean, standard deviation, 2.5 % and 97.5 % quantile; NaN where undefined."""
    if not len(shuffled) or np.isnan(shuffled).any():
        return (float("nan"),) * 4
    low, high = np.quantile(shuffled, (0.025, 0.975))
    sd = float(shuffled.std(ddof=1)) if len(shuffled) > 1 else float("nan")
    return float(shuffled.mean()), sd, float(low), float(high)
