import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from tests.examples import examples

from hsae.hierarchy.kernels import blocks
from hsae.hierarchy.latent_hierarchy import cofiring as kernel
from hsae.hierarchy.latent_hierarchy.cofiring import Firings, cofiring, grouped_spearman, implying_pairs
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)
thresholds = st.sampled_from([0.0, 0.5, 1.0])


def firings_of(dense, threshold=0.0):
    return Firings.of(rank_activations(sp.csr_array(dense), threshold=threshold))


def in_order(values):
    """Added up one after the other, as a definition reads."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total


def slow_spearman(x, y):
    if len(x) < 3 or len(set(x.tolist())) == 1 or len(set(y.tolist())) == 1:
        return math.nan
    return spearmanr(x, y).statistic


def all_pairs(n_latents):
    return (pairs.ravel() for pairs in np.meshgrid(range(n_latents), range(n_latents), indexing="ij"))


@examples(40)
@given(seed=seeds, threshold=thresholds)
def test_firings_are_what_lies_above_the_threshold(random_case, seed, threshold):
    dense = random_case(seed).dense
    firings = firings_of(dense, threshold)
    kept = np.where(dense > threshold, dense, 0)
    back = sp.csr_array((firings.activation, firings.image, firings.indptr), shape=dense.T.shape).toarray().T
    np.testing.assert_array_equal(back, kept)
    np.testing.assert_array_equal(firings.n_fire, (kept > 0).sum(axis=0))
    np.testing.assert_allclose(firings.mass, kept.sum(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_array_equal(firings.key, np.sort(firings.key))


@examples(40)
@given(seed=seeds, width=st.sampled_from([1, 30, 1 << 22]), threshold=thresholds)
def test_every_pair_equals_a_loop_over_the_images(random_case, seed, width, threshold):
    """Ties, dead, constant and dense latents, a latent with itself, pairs that never fire together."""
    dense = random_case(seed).dense
    child, parent = all_pairs(dense.shape[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_NONZEROS", width)
        found = cofiring(firings_of(dense, threshold), child, parent)
    for place, (c, p) in enumerate(zip(child, parent, strict=True)):
        images = [i for i in range(len(dense)) if dense[i, c] > threshold and dense[i, p] > threshold]
        a_c, a_p = dense[images, c].astype(np.float64), dense[images, p].astype(np.float64)
        assert found.n_both[place] == len(images)
        assert found.child_mass[place] == in_order(a_c)
        assert found.parent_mass[place] == in_order(a_p)
        dominance = sum(a_p[i] > a_c[i] for i in range(len(images))) / len(images) if images else math.nan
        np.testing.assert_equal(found.dominance[place], dominance)
        assert found.correlation[place] == pytest.approx(slow_spearman(a_p, a_c), abs=1e-12, nan_ok=True)


@examples(40)
@given(
    seed=seeds,
    width=st.sampled_from([1, 7, 1 << 22]),
    threshold=thresholds,
    least=st.sampled_from([0.3, 0.9, 1.0]),
)
def test_pairs_that_imply_each_other_equal_the_dense_definition(random_case, seed, width, threshold, least):
    dense = random_case(seed).dense
    eligible = np.random.default_rng(seed).random(dense.shape[1]) < 0.8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_PAIRS", width)
        found = implying_pairs(firings_of(dense, threshold), eligible, least)
    expected = []
    for c in range(dense.shape[1]):
        for p in range(dense.shape[1]):
            mine, theirs = dense[:, c] > threshold, dense[:, p] > threshold
            if c != p and eligible[c] and eligible[p] and mine.any():
                column = dense[:, c].astype(np.float64)
                share = in_order(column[mine & theirs]) / in_order(column[mine])
                if share >= least:
                    expected.append((c, p, share))
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


@examples(60)
@given(seed=seeds, n_groups=st.integers(1, 6), n_values=st.integers(1, 6))
def test_spearman_of_groups_equals_scipys(seed, n_groups, n_values):
    """Many ties, constants, groups without entries, zeros among the values."""
    rng = np.random.default_rng(seed)
    group = np.sort(rng.integers(0, n_groups, rng.integers(0, 40)))
    x, y = (rng.integers(0, n_values, len(group)).astype(np.float32) / 3 for _ in range(2))
    found = grouped_spearman(group, x, y, n_groups)
    for place in range(n_groups):
        expected = slow_spearman(x[group == place], y[group == place])
        assert found[place] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_spearman_of_one_order_is_one_to_the_bit():
    group = np.zeros(1001, np.int64)
    x = np.random.default_rng(0).exponential(size=1001).astype(np.float32)
    x[:100] = 1
    assert grouped_spearman(group, x, x**2, 1)[0] == 1
    assert grouped_spearman(group, x, 1 / x, 1)[0] == -1


def test_a_tie_is_no_dominance():
    dense = np.array([[1, 1], [1, 2], [2, 1], [1, 1]], np.float32)
    assert cofiring(firings_of(dense), np.array([0]), np.array([1])).dominance[0] == 1 / 4


def test_blocks_do_not_change_a_bit(planted_case):
    firings = firings_of(planted_case.dense)
    child, parent = all_pairs(planted_case.dense.shape[1])
    everywhere = np.ones(firings.n_latents, np.bool_)
    found = []
    for width in (1, 500, 1 << 22):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocks, "_BLOCK_NONZEROS", width)
            patch.setattr(kernel, "_BLOCK_PAIRS", width)
            both = cofiring(firings, child, parent)
            found.append((*implying_pairs(firings, everywhere, 0.2), both.child_mass, both.correlation))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_where_nothing_fires_there_is_no_pair():
    firings = firings_of(np.zeros((3, 2), np.float32))
    assert [len(part) for part in implying_pairs(firings, np.ones(2, np.bool_), 0.9)] == [0, 0, 0]
    both = cofiring(firings, np.array([0]), np.array([1]))
    assert both.n_both.tolist() == [0]
    assert np.isnan([both.dominance[0], both.correlation[0]]).all()
