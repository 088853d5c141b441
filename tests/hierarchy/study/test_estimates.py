"""Intervals of sums of estimates, against the formulas written out."""

import math

import numpy as np
import pytest

from hsae.hierarchy.study.estimates import Estimate, Run, combine

Z = 1.959963984540054


ONE = Run(0)


def _estimate(rng, seeds=(0,), n_replicates=50, folds=(0,)):
    runs = [Run(seed, fold) for seed in seeds for fold in folds]
    return Estimate(
        values={run: float(rng.normal()) for run in runs},
        replicates={run: rng.normal(size=n_replicates) for run in runs},
        n=9,
    )


def test_one_value_has_twice_the_standard_deviation_of_its_replicates():
    one = _estimate(np.random.default_rng(0))
    found = combine([(1.0, one)], 0.95)
    error = 2 * one.replicates[ONE].std(ddof=1)
    assert found == pytest.approx((one.values[ONE], one.values[ONE] - Z * error, one.values[ONE] + Z * error, 1, 1))


def test_a_mean_of_independent_classes_has_its_textbook_standard_error():
    """The mean over n classes: SD / sqrt(n), which the deletion of a fifth of them must give."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=500)
    kept = np.stack([rng.permutation(500)[100:] for _ in range(2000)])
    found = combine([(1.0, Estimate({ONE: values.mean()}, {ONE: values[kept].mean(axis=1)}, 500))], 0.95)
    expected = values.std(ddof=1) / math.sqrt(500)
    assert (found.high - found.low) / (2 * Z) == pytest.approx(expected, rel=0.06)


def test_differences_are_paired_by_replicate():
    rng = np.random.default_rng(2)
    one, noise = _estimate(rng), 0.01 * rng.normal(size=50)
    other = Estimate({ONE: one.values[ONE] - 0.2}, {ONE: one.replicates[ONE] - 0.2 + noise}, 5)
    found = combine([(1.0, one), (-1.0, other)], 0.95)
    assert found.value == pytest.approx(0.2)
    assert found.high - found.low == pytest.approx(2 * Z * 2 * noise.std(ddof=1))
    assert combine([(1.0, one), (-1.0, one)], 0.95)[:3] == (0.0, 0.0, 0.0)


def test_seeds_add_their_variance_and_are_paired_where_both_sides_have_the_same():
    rng = np.random.default_rng(3)
    one, other = _estimate(rng, (0, 1, 2)), _estimate(rng, (0, 1, 2))
    apart = {run: one.values[run] - other.values[run] for run in one.values}
    replicates = np.mean(list(one.replicates.values()), axis=0) - np.mean(list(other.replicates.values()), axis=0)
    error = math.hypot(2 * replicates.std(ddof=1), np.std(list(apart.values()), ddof=1) / math.sqrt(3))
    found = combine([(1.0, one), (-1.0, other)], 0.95)
    value = np.mean(list(apart.values()))
    assert found == pytest.approx((value, value - Z * error, value + Z * error, 3, 1))
    single = _estimate(rng, (0,))
    mixed = combine([(1.0, one), (-1.0, single)], 0.95)
    replicates = np.mean(list(one.replicates.values()), axis=0) - single.replicates[ONE]
    variance = np.var(list(one.values.values()), ddof=1) / 3
    assert (mixed.high - mixed.low) / (2 * Z) == pytest.approx(
        math.hypot(2 * replicates.std(ddof=1), math.sqrt(variance))
    )
    assert mixed.n_seeds == 1


def test_undefined_values_and_too_few_replicates_have_no_interval():
    nothing = Estimate({ONE: math.nan}, {ONE: np.full(5, math.nan)}, 0)
    assert all(math.isnan(bound) for bound in combine([(1.0, nothing)], 0.95)[:3])
    bare = combine([(1.0, Estimate({ONE: 0.5}, {ONE: np.empty(0)}, 3))], 0.95)
    assert bare.value == 0.5
    assert math.isnan(bare.low)
    some = Estimate({ONE: 0.5}, {ONE: np.array([0.4, math.nan, 0.6])}, 3)
    assert combine([(1.0, some)], 0.95).high == pytest.approx(0.5 + Z * 2 * np.std([0.4, 0.6], ddof=1))


def _slow_interval(values, replicates):
    """Value and standard error, written out, of values [n_seeds, n_folds] with replicates along a third axis."""
    n_seeds, n_folds = values.shape
    variance = 4 * replicates.mean(axis=(0, 1)).var(ddof=1)
    if n_seeds > 1:
        variance += values.mean(axis=1).var(ddof=1) / n_seeds
    if n_folds > 1:
        first, second = values.mean(axis=0)
        variance += (first - second) ** 2 / 4
    return values.mean(), math.sqrt(variance)


@pytest.mark.parametrize(("n_seeds", "n_folds"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_folds_and_seeds_each_add_their_variance(n_seeds, n_folds):
    rng = np.random.default_rng(n_seeds)
    one, other = (_estimate(rng, range(n_seeds), 30, range(n_folds)) for _ in range(2))

    def arrays(estimate):
        grid = [[Run(seed, fold) for fold in range(n_folds)] for seed in range(n_seeds)]
        return (np.array([[of[run] for run in row] for row in grid]) for of in (estimate.values, estimate.replicates))

    values, replicates = arrays(one)
    value, error = _slow_interval(values, replicates)
    expected = (value, value - Z * error, value + Z * error, n_seeds, n_folds)
    assert combine([(1.0, one)], 0.95) == pytest.approx(expected)
    less, others = arrays(other)
    value, error = _slow_interval(values - less, replicates - others)
    found = combine([(1.0, one), (-1.0, other)], 0.95)
    assert found == pytest.approx((value, value - Z * error, value + Z * error, n_seeds, n_folds))


def test_halves_that_agree_add_nothing_and_a_side_without_the_other_half_is_not_paired():
    one = _estimate(np.random.default_rng(4), folds=(0, 1))
    same = Estimate(dict.fromkeys(one.values, 0.3), one.replicates, 9)
    error = 2 * np.mean(list(one.replicates.values()), axis=0).std(ddof=1)
    assert combine([(1.0, same)], 0.95)[:3] == pytest.approx((0.3, 0.3 - Z * error, 0.3 + Z * error))
    single = Estimate({ONE: 0.1}, {ONE: np.full(50, 0.1)}, 9)
    found = combine([(1.0, one), (-1.0, single)], 0.95)
    first, second = one.values.values()
    assert (found.n_seeds, found.n_folds) == (1, 1)
    assert (found.high - found.low) / (2 * Z) == pytest.approx(math.hypot(error, (first - second) / 2))
