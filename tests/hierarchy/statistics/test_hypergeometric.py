"""The tail against SciPy and, where SciPy's own error is 1e-9 and more, against exact integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom
from tests.examples import examples

from hsae.hierarchy.statistics import hypergeometric
from hsae.hierarchy.statistics.hypergeometric import Hypergeometric


def exact_tail(n_images, n_both, n_fire, n_node):
    """log P(X >= n_both) in integers: the quotient of two numbers of many digits."""
    last = min(n_fire, n_node)
    ways = math.comb(n_node, n_both) * math.comb(n_images - n_node, n_fire - n_both)
    total = 0
    for both in range(n_both, last + 1):
        total += ways
        if ways * 10**20 < total:
            break
        fewer = (n_node - both) * (n_fire - both)
        ways = ways * fewer // ((both + 1) * (n_images - n_node - n_fire + both + 1))
    return _log(total) - _log(math.comb(n_images, n_fire))


def _log(number):
    shift = max(0, number.bit_length() - 900)
    return math.log(number >> shift) + shift * math.log(2)


@st.composite
def tables(draw, least, most):
    n_images = draw(st.integers(least, most))
    n_fire, n_node = draw(st.integers(0, n_images)), draw(st.integers(0, n_images))
    n_both = draw(st.integers(max(0, n_fire + n_node - n_images), min(n_fire, n_node)))
    return n_images, n_both, n_fire, n_node


@examples(200)
@given(table=tables(1, 60))
def test_small_tables_equal_exact_fractions(table):
    n_images, n_both, n_fire, n_node = table
    (log_p,) = Hypergeometric.of(n_images).log_tail(*np.array([[n_both], [n_fire], [n_node]]))
    if n_fire in (0, n_images) or n_node in (0, n_images):
        assert np.isnan(log_p)
        return
    ways = sum(
        math.comb(n_node, both) * math.comb(n_images - n_node, n_fire - both)
        for both in range(n_both, min(n_fire, n_node) + 1)
    )
    assert math.exp(log_p) == pytest.approx(float(Fraction(ways, math.comb(n_images, n_fire))), rel=1e-12)


@examples(60)
@given(table=tables(61, 20_000))
def test_tails_equal_scipys(table):
    n_images, n_both, n_fire, n_node = table
    (log_p,) = Hypergeometric.of(n_images).log_tail(*np.array([[n_both], [n_fire], [n_node]]))
    expected = hypergeom.sf(n_both - 1, n_images, n_node, n_fire)
    if np.isnan(log_p):
        assert n_fire in (0, n_images) or n_node in (0, n_images)
    elif expected > 1e-290:
        assert math.exp(log_p) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("n_both", "n_fire", "n_node"),
    [(3, 500, 1_300), (60, 500, 1_300), (300, 3_000, 50_000), (560, 1_000, 650_000), (250, 1_300, 1_300),
     (2, 2, 1_300), (1, 4_000, 1_300)],
)  # fmt: skip
def test_tables_of_imagenets_size_equal_exact_integers(n_both, n_fire, n_node):
    n_images = 1_300_000
    (log_p,) = Hypergeometric.of(n_images).log_tail(*np.array([[n_both], [n_fire], [n_node]]))
    expected = exact_tail(n_images, n_both, n_fire, n_node)
    assert abs(math.expm1(log_p - expected)) < 1e-10 * max(1.0, abs(expected) / 700)


def test_far_below_the_least_double_the_logarithm_is_exact():
    (log_p,) = Hypergeometric.of(1_300_000).log_tail(*np.array([[1_300], [1_300], [1_300]]))
    assert log_p == pytest.approx(exact_tail(1_300_000, 1_300, 1_300, 1_300), rel=1e-13)
    assert log_p < -10_000


def test_pairs_and_blocks_do_not_depend_on_one_another(monkeypatch):
    rng = np.random.default_rng(0)
    n_fire, n_node = rng.integers(0, 201, (2, 500))
    n_both = rng.integers(np.maximum(0, n_fire + n_node - 200), np.minimum(n_fire, n_node) + 1)
    together = Hypergeometric.of(200).log_tail(n_both, n_fire, n_node)
    monkeypatch.setattr(hypergeometric, "_BLOCK_PAIRS", 7)
    np.testing.assert_array_equal(Hypergeometric.of(200).log_tail(n_both, n_fire, n_node), together)


def test_log_factorials():
    expected = [math.lgamma(n + 1) for n in range(3_001)]
    np.testing.assert_allclose(Hypergeometric.of(3_000).log_factorials(), expected, rtol=1e-14, atol=1e-14)
