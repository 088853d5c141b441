import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.statistics.rarefaction import rarefied


@examples(100)
@given(n_columns=st.integers(0, 400), data=st.data())
def test_rarefaction_equals_exact_integers(n_columns, data):
    n_reaching, n_drawn = (data.draw(st.integers(0, n_columns)) for _ in range(2))
    expected = 1 - Fraction(math.comb(n_columns - n_reaching, n_drawn), math.comb(n_columns, n_drawn))
    found = rarefied(np.array([n_reaching]), n_columns, n_drawn)
    assert found[0] == pytest.approx(float(expected), rel=1e-10, abs=1e-12)


def test_rarefaction_equals_sampling():
    rng = np.random.default_rng(0)
    draws = [rng.choice(60, size=15, replace=False) for _ in range(20_000)]
    for n_reaching in (1, 3, 10):
        share = np.mean([(draw < n_reaching).any() for draw in draws])
        assert rarefied(np.array([n_reaching]), 60, 15)[0] == pytest.approx(share, abs=0.015)


def test_with_all_columns_it_is_whether_any_reaches():
    assert rarefied(np.array([0, 1, 7]), 12_288, 12_288).tolist() == [0, 1, 1]


def test_of_many_columns_it_stays_exact():
    found = rarefied(np.array([1]), 1_000_000, 250_000)
    assert found[0] == pytest.approx(0.25, rel=1e-9)


def test_more_columns_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="13 of 12 columns"):
        rarefied(np.array([1]), 12, 13)
