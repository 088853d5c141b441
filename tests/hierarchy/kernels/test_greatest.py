"""The greatest values of rows against sorting in loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.kernels.greatest import best_of_rows, greatest_values, sorted_rows

seeds = st.integers(0, 2**32 - 1)
needs_cuda = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"))
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])


def some_values(seed, dtype):
    """Few rows with many ties, zeros of both signs and infinities."""
    rng = np.random.default_rng(seed)
    values = np.round(rng.standard_normal((int(rng.integers(1, 6)), int(rng.integers(1, 30)))), int(rng.integers(0, 3)))
    values[rng.random(values.shape) < 0.1] = -np.inf
    values[rng.random(values.shape) < 0.1] = 0.0
    values[rng.random(values.shape) < 0.1] *= -1
    return values.astype(dtype)


@on_every_device
@examples(60)
@given(seed=seeds, share=st.floats(0, 1))
def test_the_greatest_values_are_those_of_a_sort(device, seed, share):
    values = some_values(seed, np.float32)
    n = max(1, round(share * values.shape[1]))
    expected = [sorted(row.tolist())[len(row) - n :] for row in values]
    found = greatest_values(torch.from_numpy(values).to(device), n)
    np.testing.assert_array_equal(found.cpu(), np.array(expected, np.float32))
    everything = sorted_rows(torch.from_numpy(values.copy()).to(device))
    np.testing.assert_array_equal(everything.cpu(), [sorted(row.tolist()) for row in values])


@on_every_device
@examples(60)
@given(seed=seeds, n=st.integers(1, 8))
def test_the_best_come_first_and_of_ties_the_lower_place(device, seed, n):
    scores = some_values(seed, np.float64)
    scores[~np.isfinite(scores)] = -1.0  # what is not defined is left out by the caller
    places, values = best_of_rows(torch.from_numpy(scores.copy()).to(device), n)
    for row, place, value in zip(scores, places, values, strict=True):
        expected = np.lexsort((np.arange(len(row)), -row))[:n].tolist()
        assert place.tolist() == expected
        assert value.tolist() == row[expected].tolist()


@on_every_device
def test_rows_with_fewer_scores_than_asked_for(device):
    """What was chosen becomes -inf, and so does what is undefined: the score tells that there is no such pair."""
    scores = torch.tensor([[-torch.inf, 2.0, -torch.inf], [-torch.inf] * 3], dtype=torch.float64).to(device)
    places, values = best_of_rows(scores, 2)
    assert places[0, 0] == 1
    assert values.tolist() == [[2.0, -np.inf], [-np.inf, -np.inf]]
