"""The largest of a row by blocks against topk, and the places of True against nonzero."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.kernels import selection
from hsae.sae.kernels.entries import positive_entries
from hsae.sae.kernels.selection import largest_of_rows, true_places


@pytest.fixture(autouse=True, scope="module")
def _small_matrices_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "_FROM_SIZE", 0)
        yield


@examples(200)
@given(
    seed=st.integers(0, 2**31),
    n_rows=st.integers(1, 6),
    n_columns=st.integers(1, 300),
    k=st.integers(1, 20),
    how=st.sampled_from(["any", "ties", "few", "nan", "equal", "clustered", "infinite"]),
)
def test_equals_topk(seed, n_rows, n_columns, k, how):
    k = min(k, n_columns)
    matrix = torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(seed))
    if how == "ties":
        matrix = (2 * matrix).round()
    elif how == "few":
        matrix = matrix.where(matrix > 1.5, -1.0)
    elif how == "nan":
        matrix[seed % n_rows, seed % n_columns] = torch.nan
    elif how == "equal":
        matrix[:] = 1.0
    elif how == "clustered":
        matrix[:, : n_columns // 3] += 10
    elif how == "infinite":
        matrix[0] = -torch.inf
        matrix[-1, :: max(1, n_columns // 2)] = torch.inf
    values, columns = largest_of_rows(matrix, k)
    expected = matrix.topk(k, dim=1)
    torch.testing.assert_close(values, expected.values, rtol=0, atol=0, equal_nan=True)
    # A column that is equal to its neighbour, or NaN, is topk's choice among them all the same.
    torch.testing.assert_close(columns, expected.indices, rtol=0, atol=0)


@pytest.mark.parametrize("place", [0, 16, 200])
@pytest.mark.parametrize("n_columns", [17, 243])
def test_one_nan_is_the_largest(place, n_columns):
    matrix = torch.randn(3, n_columns, generator=torch.Generator().manual_seed(0))
    matrix[1, min(place, n_columns - 1)] = torch.nan
    for k in (1, 2):
        values, columns = largest_of_rows(matrix, k)
        expected = matrix.topk(k, dim=1)
        torch.testing.assert_close(values, expected.values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(columns, expected.indices)


def test_blocks_are_used_and_leave_a_tail():
    matrix = torch.randn(5, 8 * 30 + 3, generator=torch.Generator().manual_seed(0))
    assert selection._group_size(matrix, 4) == 16
    matrix[:, -1] = 100.0
    found = selection._by_blocks(matrix, 4, 16)
    assert found is not None
    expected = matrix.topk(5, dim=1)
    assert torch.equal(found[0][:, :4], expected.values[:, :4])
    assert torch.equal(found[1][:, :4], expected.indices[:, :4])


@pytest.mark.parametrize("k", [1, 3])
def test_equal_values_at_the_border(k):
    matrix = torch.zeros(2, 243)
    matrix[0, [5, 9, 40]] = 2.0
    matrix[0, [77, 80, 240]] = 1.0 if k == 3 else 2.0
    assert torch.equal(largest_of_rows(matrix, k)[1], matrix.topk(k, dim=1).indices)


def test_a_matrix_that_is_no_block_of_memory():
    matrix = torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).T
    assert torch.equal(largest_of_rows(matrix, 3)[1], matrix.topk(3, dim=1).indices)
    assert largest_of_rows(torch.zeros(0, 300), 2)[0].shape == (0, 2)


@examples(40)
@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(1, 40), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_places_of_true_are_those_of_nonzero(seed, n_rows, n_columns, share):
    mask = torch.rand(n_rows, n_columns, generator=torch.Generator().manual_seed(seed)) < share
    assert torch.equal(true_places(mask), mask.view(-1).nonzero().view(-1))
    entries = positive_entries(mask.float())
    assert torch.equal(torch.stack([entries.rows, entries.latents], dim=1), mask.nonzero())
