"""Sums of quantities with intervals, from replicates without some classes, several seeds and both folds.

The standard error by classes is twice the standard deviation of the replicates. It is the delete-d jackknife (Shao &
Wu, Annals of Statistics 17, 1989): with `d` of `n` classes deleted, `SE^2 = (n - d) / d` times the variance of the
replicates, and a fifth deleted gives (n - d) / d = 4. To it comes the variance over the seeds of the SAE over their
number, where there are several (ours): `SE^2 = (2 SD)^2 + SD_seed^2 / S`. With cross-fitting there are two values for
each seed, one per half of the images that was scored. The values of a seed are then means over the halves, and to the
sum comes `(v_1 - v_2)^2 / 4` of the halves' means over the seeds, the variance of the mean of two (ours): what another
choice of images would change. Where there are both, what varies with seed and half together counts twice, so that the
interval is rather too wide.
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


class Run(NamedTuple):
    """Seed of an SAE and fold of the images: with cross-fitting 0 where the second half is scored, 1 the first."""

    seed: int
    fold: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One quantity of one basis of an SAE configuration at a layer, by seed of the SAE and fold.

    Attributes:
        values: by run its value, NaN where undefined.
        replicates: by run its value in every replicate; replicate `r` deletes the same classes in every estimate.
        n: number of nodes or latents that it is the mean of; of several runs the smallest.
    """

    values: Mapping[Run, float]
    replicates: Mapping[Run, Float64[np.ndarray, " n_replicates"]]
    n: int


class Interval(NamedTuple):
    """A value with its interval; NaN where undefined. Seeds and folds are the smallest numbers of a term."""

    value: float
    low: float
    high: float
    n_seeds: int
    n_folds: int = 1


def combine(terms: Sequence[tuple[float, Estimate]], confidence: float) -> Interval:
    """The interval of a weighted sum of estimates, such as a difference (weights 1 and -1) or a slope.

    Every estimate counts with its mean over the runs. The replicates of the sum are the sums of replicates, so that
    what makes all terms great or small in a replicate cancels in a difference. If all terms have the same runs, so are
    the runs paired; otherwise the terms' variances over runs are added.

    Args:
        terms: weight and estimate.
        confidence: such as 0.95.

    Returns:
        NaN bounds where fewer than two replicates define the sum.
    """
    value = math.fsum(weight * _mean(list(one.values.values())) for weight, one in terms)
    replicates = sum(weight * np.mean(list(one.replicates.values()), axis=0) for weight, one in terms)
    defined = np.asarray(replicates)[~np.isnan(replicates)]
    n_seeds, n_folds = (min(len({run[part] for run in one.values}) for _, one in terms) for part in (0, 1))
    if math.isnan(value) or len(defined) < 2:
        return Interval(value, math.nan, math.nan, n_seeds, n_folds)
    error = math.hypot(JACKKNIFE * float(defined.std(ddof=1)), math.sqrt(_run_variance(terms)))
    reach = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * error
    return Interval(value, value - reach, value + reach, n_seeds, n_folds)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)


def _run_variance(terms: Sequence[tuple[float, Estimate]]) -> float:
    """Variance of the sum's mean over seeds and folds; 0 with one of each, whose spread is unknown."""
    runs = {tuple(sorted(one.values)) for _, one in terms}
    if len(runs) == 1:
        (shared,) = runs
        return _variance_of_mean({run: math.fsum(weight * one.values[run] for weight, one in terms) for run in shared})
    return math.fsum(weight**2 * _variance_of_mean(one.values) for weight, one in terms)


def _variance_of_mean(values: Mapping[Run, float]) -> float:
    """That over the seeds of the means over folds, plus that over the folds of the means over seeds."""
    variance = 0.0
    for part in (0, 1):
        groups: dict[int, list[float]] = {}
        for run, value in values.items():
            groups.setdefault(run[part], []).append(value)
        if len(groups) > 1:
            variance += float(np.var([_mean(group) for group in groups.values()], ddof=1)) / len(groups)
    return variance
