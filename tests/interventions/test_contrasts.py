"""Sign flips and costs at equal forgetting, against their definitions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsae.interventions.contrasts import cost_at, sign_flip_p


@given(values=st.lists(st.integers(-4, 4), min_size=1, max_size=5))
def test_few_nodes_try_all_signs(values):
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in product((1, -1), repeat=len(values))
    ]
    expected = np.mean([one >= abs(sum(values)) for one in sums])
    assert sign_flip_p([*map(float, values), float("nan")], 10, 0) == pytest.approx(expected)


def test_many_nodes_draw_signs_with_the_true_ones_among_them():
    rng = np.random.default_rng(0)
    assert sign_flip_p(np.ones(40).tolist(), 999, 0) == pytest.approx(1 / 1000)
    balanced = sign_flip_p((np.arange(40) % 2 - 0.5).tolist(), 999, 0)
    assert balanced == 1
    assert 0.01 < sign_flip_p(rng.normal(0, 1, 30).tolist(), 999, 0) <= 1
    assert np.isnan(sign_flip_p([], 9, 0))
    assert np.isnan(sign_flip_p([float("nan")], 9, 0))


def test_a_cost_is_interpolated_between_doses():
    forgetting, cost = np.array([0.8, 0.2, float("nan")]), np.array([0.5, 0.1, 0.0])
    assert cost_at(forgetting, cost, 0.5) == pytest.approx(0.3)
    assert cost_at(forgetting, cost, 0.1) == pytest.approx(0.05)
    assert cost_at(forgetting, cost, 0.8) == pytest.approx(0.5)
    for impossible in (0.9, 0.0, -0.1, float("nan")):
        assert np.isnan(cost_at(forgetting, cost, impossible))
