"""Bootstrap intervals against SciPy's and a plain loop."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.study import bootstrap
from hsae.hierarchy.study.bootstrap import mean_of, percentile_interval, resampled_means

VALUES = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 4)),
    elements=st.one_of(st.floats(-5, 5), st.sampled_from([0.0, 0.5, 1.0])),  # with ties
)


def _by_a_loop(values, n_resamples, seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    draws = rng.integers(0, len(values), size=(n_resamples, len(values)))
    return np.array([[np.mean([column[i] for i in drawn]) for column in values.T] for drawn in draws])


@examples(40)
@given(VALUES, st.integers(1, 25), st.one_of(st.integers(0, 99), st.lists(st.integers(0, 99), min_size=1, max_size=3)))
def test_resampled_means_equal_a_plain_loop_in_blocks_of_any_size(values, n_resamples, seed):
    found = resampled_means(values, n_resamples=n_resamples, seed=seed)
    np.testing.assert_allclose(found, _by_a_loop(values, n_resamples, seed), atol=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_DRAWS_PER_BLOCK", 40)
        np.testing.assert_array_equal(resampled_means(values, n_resamples=n_resamples, seed=seed), found)
    np.testing.assert_allclose(mean_of(values), values.mean(0), atol=1e-12)


@examples(40)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 5)), elements=st.floats(-5, 5)),
    st.floats(0.01, 0.99),
)
def test_intervals_equal_numpys_percentiles_in_blocks_of_any_size(resampled, confidence):
    low, high = percentile_interval(resampled, confidence)
    for column in range(resampled.shape[1]):
        expected = np.percentile(resampled[:, column], [50 * (1 - confidence), 50 * (1 + confidence)])
        np.testing.assert_allclose((low[column], high[column]), expected, atol=1e-12)
    assert (low <= high).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_VALUES_PER_BLOCK", 50)
        np.testing.assert_array_equal(percentile_interval(resampled, confidence), (low, high))


@pytest.mark.parametrize("sample", ["normal", "shares", "skewed"])
def test_intervals_agree_with_scipys(sample):
    rng = np.random.default_rng(3)
    values = {"normal": rng.normal(size=300), "shares": rng.random(300) < 0.2, "skewed": rng.exponential(size=300)}
    column = values[sample].astype(np.float64)
    theirs = scipy.stats.bootstrap((column,), np.mean, n_resamples=5000, method="percentile", rng=rng)
    low, high = percentile_interval(resampled_means(column[:, None], n_resamples=5000, seed=0), 0.95)
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    # Two runs of 5,000 resamples differ by their own sampling.
    assert low[0] == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert high[0] == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


def test_a_difference_of_columns_is_paired():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400)  # what makes a node hard is shared
    values = np.stack([hard, hard + 0.1 + rng.normal(scale=0.05, size=400)], axis=1)
    means = resampled_means(values, n_resamples=1000, seed=1)
    low, high = percentile_interval((means[:, 1] - means[:, 0])[:, None], 0.95)
    theirs = scipy.stats.bootstrap(
        (values[:, 1], values[:, 0]), lambda a, b, axis: (a - b).mean(axis), paired=True, n_resamples=1000,
        method="percentile", rng=rng,
    ).confidence_interval  # fmt: skip
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=2e-3)
    assert high[0] - low[0] < 0.02  # unpaired it would be 0.28 wide


@given(st.floats(-1, 1), st.integers(1, 20))
def test_constant_columns_have_no_width(value, n):
    means = resampled_means(np.full((n, 2), value), n_resamples=7, seed=0)
    assert (means == value).all()
    assert [bound.tolist() for bound in percentile_interval(means, 0.9)] == [[value] * 2] * 2
    assert mean_of(np.full((n, 1), value)).tolist() == [value]


def test_without_rows_everything_is_undefined():
    nothing = np.empty((0, 3))
    means = resampled_means(nothing, n_resamples=5, seed=0)
    assert means.shape == (5, 3)
    for bound in (mean_of(nothing), *percentile_interval(means, 0.95)):
        assert np.isnan(bound).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="NaN or infinite"):
        resampled_means(np.array([[0.0], [np.nan]]), n_resamples=5, seed=0)
    with pytest.raises(UserError, match="0 resamples"):
        resampled_means(np.zeros((2, 1)), n_resamples=0, seed=0)
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="between 0 and 1"):
            percentile_interval(np.zeros((2, 1)), confidence)
