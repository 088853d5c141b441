"""Headline numbers of one basis, each with its replicates and its values under shuffled taxonomies."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

Headline = Literal[
    "coherence_excess",
    "coherence_excess_weighted",
    "f1_adjusted_inner_mean",
    "f1_adjusted_mean",
    "purity_mean",
    "lch_excess_mean",
    "lch_height_mean",
    "coverage_mean",
]
"""The numbers that get intervals and nulls; docs/metrics.md has their formulas."""
HEADLINES: tuple[Headline, ...] = get_args(Headline)

LayerNumber = Literal[
    "best_f1_adjusted_pair_mean",
    "best_f1_adjusted_single_mean",
    "best_f1_inner_mean",
    "best_f1_mean",
    "share_nodes_f1",
]
"""Further numbers of a layer that depend on the tree, as the table layer_score calls them: nulls, and no intervals."""
LAYER_NUMBERS: tuple[LayerNumber, ...] = get_args(LayerNumber)

TreeNumber = Headline | LayerNumber
"""What has values under shuffled taxonomies; of the headlines purity alone has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """One headline number of one basis.

    Attributes:
        value: with all classes; NaN where undefined.
        n: number of nodes or latents that it is the mean of.
        replicates: its value in every replicate; NaN where undefined, and of purity where too few classes carry it.
    """

    value: float
    n: int
    replicates: Float64[np.ndarray, " n_replicates"]


@dataclass(frozen=True, slots=True, eq=False)
class ShuffledTrees:
    """One number beside its values under shuffled taxonomies.

    Attributes:
        value: with the taxonomy as it is; NaN where undefined.
        shuffled: its value under every permutation.
        p: `(1 + b) / (1 + n)`, where `b` of the `n` permutations follow the tree at least as well (Phipson & Smyth
            2010); one-sided; NaN where undefined.
    """

    value: float
    shuffled: Float64[np.ndarray, " n_shuffles"]
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """The headline numbers of one basis.

    Attributes:
        replicates: each with its values when a fifth of the classes is deleted.
        trees: each that depends on the tree, and a few more, with its values under shuffled taxonomies; empty where
            they were not asked for.
    """

    replicates: dict[Headline, Quantity]
    trees: dict[TreeNumber, ShuffledTrees]
