"""The geometric median against a general-purpose minimiser and against cases with a known answer."""

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.training.geometric_median import geometric_median


def summed_distance(rows: torch.Tensor, point: torch.Tensor) -> float:
    return float((rows.double() - point).norm(dim=1).sum())


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_general_minimiser(seed):
    rows = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) ** 3
    reference = scipy.optimize.minimize(  # type: ignore[call-overload]
        lambda p: np.linalg.norm(rows.numpy() - p, axis=1).sum(),
        rows.mean(dim=0).numpy(),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 10_000},
    )
    np.testing.assert_allclose(geometric_median(rows).numpy(), reference.x, atol=1e-5)


def test_on_a_line_it_is_the_median():
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [10.0, 10.0], [100.0, 100.0]])
    torch.testing.assert_close(geometric_median(rows), torch.tensor([2.0, 2.0], dtype=torch.float64), atol=1e-4, rtol=0)


def test_a_majority_of_coincident_rows_is_the_median():
    rows = torch.cat([torch.full((6, 4), 2.5), torch.randn(5, 4, generator=torch.Generator().manual_seed(0))])
    torch.testing.assert_close(geometric_median(rows), torch.full((4,), 2.5, dtype=torch.float64), atol=1e-6, rtol=0)


def test_starting_on_a_row_does_not_stop_it():
    # The mean is the row at the origin, which is not the median: three rows pull together.
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.1], [1.0, -0.1], [-3.0, 0.0]])
    median = geometric_median(rows)
    assert summed_distance(rows, median) < summed_distance(rows, torch.zeros(2)) - 0.1


def test_equal_rows_and_one_row():
    assert torch.equal(geometric_median(torch.full((3, 2), 7.0)), torch.full((2,), 7.0, dtype=torch.float64))
    assert torch.equal(geometric_median(torch.tensor([[1.0, 2.0]])), torch.tensor([1.0, 2.0], dtype=torch.float64))


def test_no_row_is_an_error():
    with pytest.raises(ValueError, match="at least one row"):
        geometric_median(torch.empty(0, 3))


def test_outliers_move_it_less_than_the_mean():
    rows = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    spoilt = torch.cat([rows, torch.full((5, 5), 1e4)])
    assert float((geometric_median(spoilt) - geometric_median(rows)).norm()) < 0.5
    assert float((spoilt.mean(dim=0) - rows.mean(dim=0)).norm()) > 100


@examples(50)
@given(st.integers(0, 2**31), st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_no_row_and_not_the_mean_is_better(seed, n_rows, d_model, on_a_grid):
    rows = torch.randn(n_rows, d_model, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if on_a_grid:  # many coincident rows
        rows = rows.round()
    best = summed_distance(rows, geometric_median(rows))
    for candidate in [*rows, rows.mean(dim=0)]:
        assert best <= summed_distance(rows, candidate) * (1 + 1e-5) + 1e-9
