"""Intervals of sums of estimates, against the formulas written out."""

import math

import numpy as np
import pytest

from hsae.hierarchy.study.estimates import Estimate, combine

Z = 1.959963984540054


def _estimate(rng, seeds=(0,), n_replicates=50):
    return Estimate(
        values={seed: float(rng.normal()) for seed in seeds},
        replicates={seed: rng.normal(size=n_replicates) for seed in seeds},
        n=9,
    )


def test_one_value_has_twice_the_standard_deviation_of_its_replicates():
    one = _estimate(np.random.default_rng(0))
    found = combine([(1.0, one)], 0.95)
    error = 2 * one.replicates[0].std(ddof=1)
    assert found == pytest.approx((one.values[0], one.values[0] - Z * error, one.values[0] + Z * error, 1))


def test_a_mean_of_independent_classes_has_its_textbook_standard_error():
    """The mean over n classes: SD / sqrt(n), which the deletion of a fifth of them must give."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=500)
    kept = np.stack([rng.permutation(500)[100:] for _ in range(2000)])
    found = combine([(1.0, Estimate({0: values.mean()}, {0: values[kept].mean(axis=1)}, 500))], 0.95)
    expected = values.std(ddof=1) / math.sqrt(500)
    assert (found.high - found.low) / (2 * Z) == pytest.approx(expected, rel=0.06)


def test_differences_are_paired_by_replicate():
    rng = np.random.default_rng(2)
    one, noise = _estimate(rng), 0.01 * rng.normal(size=50)
    other = Estimate({0: one.values[0] - 0.2}, {0: one.replicates[0] - 0.2 + noise}, 5)
    found = combine([(1.0, one), (-1.0, other)], 0.95)
    assert found.value == pytest.approx(0.2)
    assert found.high - found.low == pytest.approx(2 * Z * 2 * noise.std(ddof=1))
    assert combine([(1.0, one), (-1.0, one)], 0.95)[:3] == (0.0, 0.0, 0.0)


def test_seeds_add_their_variance_and_are_paired_where_both_sides_have_the_same():
    rng = np.random.default_rng(3)
    one, other = _estimate(rng, (0, 1, 2)), _estimate(rng, (0, 1, 2))
    apart = {seed: one.values[seed] - other.values[seed] for seed in (0, 1, 2)}
    replicates = np.mean(list(one.replicates.values()), axis=0) - np.mean(list(other.replicates.values()), axis=0)
    error = math.hypot(2 * replicates.std(ddof=1), np.std(list(apart.values()), ddof=1) / math.sqrt(3))
    found = combine([(1.0, one), (-1.0, other)], 0.95)
    assert found == pytest.approx((np.mean(list(apart.values())), found.value - Z * error, found.value + Z * error, 3))
    single = _estimate(rng, (0,))
    mixed = combine([(1.0, one), (-1.0, single)], 0.95)
    replicates = np.mean(list(one.replicates.values()), axis=0) - single.replicates[0]
    variance = np.var(list(one.values.values()), ddof=1) / 3
    assert (mixed.high - mixed.low) / (2 * Z) == pytest.approx(
        math.hypot(2 * replicates.std(ddof=1), math.sqrt(variance))
    )
    assert mixed.n_seeds == 1


def test_undefined_values_and_too_few_replicates_have_no_interval():
    nothing = Estimate({0: math.nan}, {0: np.full(5, math.nan)}, 0)
    assert all(math.isnan(bound) for bound in combine([(1.0, nothing)], 0.95)[:3])
    bare = combine([(1.0, Estimate({0: 0.5}, {0: np.empty(0)}, 3))], 0.95)
    assert bare.value == 0.5
    assert math.isnan(bare.low)
    some = Estimate({0: 0.5}, {0: np.array([0.4, math.nan, 0.6])}, 3)
    assert combine([(1.0, some)], 0.95).high == pytest.approx(0.5 + Z * 2 * np.std([0.4, 0.6], ddof=1))
