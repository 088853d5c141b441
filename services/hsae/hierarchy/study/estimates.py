"""Sums of quantities with intervals, from replicates without some classes and from several seeds.

The standard error by classes is twice the standard deviation of the replicates. It is the delete-d jackknife (Shao &
Wu, Annals of Statistics 17, 1989): with `d` of `n` classes deleted, `SE^2 = (n - d) / d` times the variance of the
replicates, and a fifth deleted gives (n - d) / d = 4. To it comes the variance over the seeds of the SAE over their
number, where there are several (ours): `SE^2 = (2 SD)^2 + SD_seed^2 / S`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

JACKKNIFE = 2.0
"""Standard errors per standard deviation of replicates without a fifth of the classes."""


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One quantity of one basis of an SAE configuration at a layer, by seed of the SAE.

    Attributes:
        values: by seed its value, NaN where undefined.
        replicates: by seed its value in every replicate; replicate `r` deletes the same classes in every estimate.
        n: number of nodes or latents that it is the mean of; of several seeds the smallest.
    """

    values: Mapping[int, float]
    replicates: Mapping[int, Float64[np.ndarray, " n_replicates"]]
    n: int


class Interval(NamedTuple):
    """A value with its interval; NaN where undefined. `n_seeds` is the smallest number of seeds of a term."""

    value: float
    low: float
    high: float
    n_seeds: int


def combine(terms: Sequence[tuple[float, Estimate]], confidence: float) -> Interval:
    """The interval of a weighted sum of estimates, such as a difference (weights 1 and -1) or a slope.

    Every estimate counts with its mean over the seeds. The replicates of the sum are the sums of replicates, so that
    what makes all terms great or small in a replicate cancels in a difference. If all terms have the same seeds, so are
    the seeds paired; otherwise the terms' variances over seeds are added.

    Args:
        terms: weight and estimate.
        confidence: such as 0.95.

    Returns:
        NaN bounds where fewer than two replicates define the sum.
    """
    value = math.fsum(weight * _mean(list(one.values.values())) for weight, one in terms)
    replicates = sum(weight * np.mean(list(one.replicates.values()), axis=0) for weight, one in terms)
    defined = np.asarray(replicates)[~np.isnan(replicates)]
    n_seeds = min(len(one.values) for _, one in terms)
    if math.isnan(value) or len(defined) < 2:
        return Interval(value, math.nan, math.nan, n_seeds)
    error = math.hypot(JACKKNIFE * float(defined.std(ddof=1)), math.sqrt(_seed_variance(terms)))
    reach = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * error
    return Interval(value, value - reach, value + reach, n_seeds)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _seed_variance(terms: Sequence[tuple[float, Estimate]]) -> float:
    """Variance of the sum's mean over the seeds; 0 with one seed, whose spread is unknown."""
    seeds = {tuple(sorted(one.values)) for _, one in terms}
    if len(seeds) == 1:
        (shared,) = seeds
        return _variance_of_mean([math.fsum(weight * one.values[seed] for weight, one in terms) for seed in shared])
    return math.fsum(weight**2 * _variance_of_mean(list(one.values.values())) for weight, one in terms)


def _variance_of_mean(values: list[float]) -> float:
    return float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
