"""The n largest of a matrix against sorting all of it, also in parts."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.kernels.batch_selection import cuts_of_parts, entries_of_cut, largest_entries


def naive_largest(pre, n):
    """Places of the n largest positive numbers; among equals the first by row, then by column."""
    numbers = [(-value, row, column) for row, line in enumerate(pre.tolist()) for column, value in enumerate(line)]
    return sorted((row, column) for negative, row, column in sorted(numbers)[:n] if negative < 0)


def places(entries, first_row=0):
    return [
        (row + first_row, column) for row, column in zip(entries.rows.tolist(), entries.latents.tolist(), strict=True)
    ]


@examples(150)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 6)),
    n=st.integers(1, 50),
    shift=st.sampled_from([-3.0, 0.0, 1.0]),
    part=st.integers(1, 7),
)
def test_the_largest_of_all_with_ties(seed, shape, n, shift, part):
    pre = (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + shift).round() / 2
    expected = naive_largest(pre, n)
    entries, least = largest_entries(pre, n)
    assert places(entries) == expected  # in the order of rows, as products need them
    assert float(least) == min((float(pre[place]) for place in expected), default=float("inf"))
    parts = torch.split(pre, part)
    cuts = cuts_of_parts(iter(parts), n)
    found = [
        place
        for number, (rows, cut) in enumerate(zip(parts, cuts, strict=True))
        for place in places(entries_of_cut(rows, cut), number * part)
    ]
    assert found == expected
    assert {float(cut.least) for cut in cuts} == {float(least)}


def test_a_large_matrix_is_sampled_and_a_bad_sample_costs_nothing_but_time():
    generator = torch.Generator().manual_seed(0)
    pre = torch.randn(300, 500, generator=generator)
    for n in (1, 40, 3_000, 149_999, 200_000):
        entries, least = largest_entries(pre, n)
        expected = pre.flatten().sort(descending=True).values[: min(n, int((pre > 0).sum()))]
        assert entries.rows.shape[0] == expected.shape[0]
        assert torch.equal(pre[entries.rows, entries.latents].sort(descending=True).values, expected)
        assert float(least) == float(expected[-1])
    # The sample sees large numbers only; the rest of the wanted ones are small.
    skewed = torch.full((150_000,), 0.25)
    skewed[::97] = 10.0
    entries, least = largest_entries(skewed.view(300, 500), 100_000)
    assert (entries.rows.shape[0], float(least)) == (100_000, 0.25)
    n_large = int((skewed == 10.0).sum())
    assert int((skewed.view(300, 500)[entries.rows, entries.latents] == 10.0).sum()) == n_large


def test_nan_is_never_selected():
    pre = torch.tensor([[1.0, float("nan"), -1.0], [float("nan"), 3.0, 2.0]])
    entries, least = largest_entries(pre, 4)
    assert (places(entries), float(least)) == ([(0, 0), (1, 1), (1, 2)], 1.0)
