"""Exact mean and variance of coherence when the classes are permuted over the tree."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from hsae.hierarchy.coherence.class_pairs import ClassPairs
from hsae.hierarchy.coherence.resnik import ResnikSimilarity

MIN_CLASSES = 3
"""With fewer classes there is one pair at most, and nothing to compare it with."""

_ROUNDING = 1e-12
"""A variance below this, in bits squared, is 0 but for rounding."""


@dataclass(frozen=True, slots=True)
class PairMoments:
    """Moments of the similarity of two classes at random places of the tree, over all permutations of the classes.

    Attributes:
        mean: `mu0 = E[s_ab]`, in bits; the null mean of `T_j`, whatever the weights of its pairs.
        v2: `Var[s_ab]`.
        v1: `Cov[s_ab, s_ac]`, of two pairs that share one class.
        v0: `Cov[s_ab, s_cd]`, of two pairs that share none; 0 where there are fewer than 4 classes.
    """

    mean: float
    v2: float
    v1: float
    v0: float

    @classmethod
    def undefined(cls) -> "PairMoments":
        """Those of fewer than 3 classes: all NaN."""
        return cls(*[float("nan")] * 4)

    def variance(self, pairs: ClassPairs) -> Float64[np.ndarray, "n_latents"]:
        """Exact null variance of every `T_j`, in bits squared; NaN for a latent without a pair.

        `A2 V2 + A1 V1 + A0 V0` with `r_a = sum_b c_ab`, `A2 = sum_{a<b} c_ab^2`, `A1 = sum_a r_a^2 - 2 A2` and
        `A0 = 1 - A1 - A2` (ours): the squared sum of all pairs, split by the number of classes that two pairs share.
        """
        values = np.full(pairs.n_latents, np.nan)
        for block in pairs.blocks:
            share = block.shares()
            left, right = block.pairs()
            r_squared = np.zeros(len(share))
            for position in range(block.classes.shape[1]):
                r_squared += share[:, (left == position) | (right == position)].sum(axis=1) ** 2
            a2 = (share**2).sum(axis=1)
            a1 = r_squared - 2 * a2
            values[block.latents] = a2 * self.v2 + a1 * self.v1 + (1 - a1 - a2) * self.v0
        return np.where(np.abs(values) < _ROUNDING, 0.0, values)


def pair_moments(resnik: ResnikSimilarity, keep: Bool[np.ndarray, "n_classes"]) -> PairMoments:
    """The moments over all permutations of the kept classes; all NaN if fewer than 3 classes are kept.

    With `R_a = sum_b s_ab`, `tau = sum_{a != b} s_ab`, `Q = sum_{a != b} s_ab^2` and `L` kept classes:
    `V2 = Q / [L(L-1)] - mu0^2`, `V1 = (sum_a R_a^2 - Q) / [L(L-1)(L-2)] - mu0^2`,
    `V0 = (tau^2 - 2Q - 4(sum_a R_a^2 - Q)) / [L(L-1)(L-2)(L-3)] - mu0^2` (ours).

    Args:
        resnik: the similarities of all classes.
        keep: the classes that are permuted.
    """
    n = int(keep.sum())
    if n < MIN_CLASSES:
        return PairMoments.undefined()
    sums, squares = resnik.row_sums(keep), resnik.row_sums(keep, power=2)
    tau, q, r_squared = float(sums.sum()), float(squares.sum()), float((sums**2).sum())
    n_pairs = n * (n - 1)
    mean = tau / n_pairs
    v0 = 0.0  # no four different classes: nothing has this weight
    if n > MIN_CLASSES:
        v0 = (tau**2 - 2 * q - 4 * (r_squared - q)) / (n_pairs * (n - 2) * (n - 3)) - mean**2
    return PairMoments(mean, q / n_pairs - mean**2, (r_squared - q) / (n_pairs * (n - 2)) - mean**2, v0)
