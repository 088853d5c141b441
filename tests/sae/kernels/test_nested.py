"""Nested reconstructions and ranked entries against loops."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.kernels.entries import Entries
from hsae.sae.kernels.nested import groups_of, nested_reconstruction, ranked_entries, ranks


@examples(150)
@given(
    seed=st.integers(0, 2**31),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 8)),
    drawn=st.sets(st.integers(1, 8), min_size=1),
)
def test_entries_are_ranked_with_ties_at_every_count(seed, shape, drawn):
    counts = sorted({min(count, shape[1]) for count in drawn})
    pre = (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).round() / 2
    entries = ranked_entries(pre, counts)
    places = ranks(entries)
    for row in range(shape[0]):
        values = pre[row].tolist()
        for count in counts:
            best = sorted(range(shape[1]), key=lambda latent: (-values[latent], latent))[:count]
            found = entries.latents[(entries.rows == row) & (places < count)].tolist()
            assert sorted(found) == sorted(latent for latent in best if values[latent] > 0)


@pytest.mark.parametrize("ends", [[8], [3, 8], [1, 4, 5, 8]])
def test_a_group_ends_before_its_end(ends):
    found = groups_of(torch.arange(8), ends)
    assert found.tolist() == [next(group for group, end in enumerate(ends) if number < end) for number in range(8)]


@pytest.mark.parametrize(("n_latents", "share"), [(9, 0.5), (400, 0.02), (9, 0.0)])
def test_losses_and_gradients_are_those_of_separate_reconstructions(n_latents, share):
    generator = torch.Generator().manual_seed(n_latents)
    weights = [3.0, 2.0, 1.0]
    fires = torch.rand(6, n_latents, generator=generator) < share
    rows, latents = torch.nonzero(fires, as_tuple=True)
    groups = torch.bucketize(latents, torch.tensor([n_latents // 4, n_latents // 4, n_latents]), right=True)
    assert 1 not in groups  # an empty group
    tensors = [
        torch.randn(6, 5, generator=generator, requires_grad=True),
        torch.rand(rows.shape[0], generator=generator, requires_grad=True),
        torch.randn(n_latents, 5, generator=generator, requires_grad=True),
    ]
    entries = Entries(rows, latents, 6, n_latents)
    loss, last = nested_reconstruction(tensors[0], entries, tensors[1], tensors[2], groups=groups, weights=weights)
    (3 * loss).backward()

    targets, z, directions = plain = [tensor.detach().double().requires_grad_() for tensor in tensors]
    expected = torch.zeros((), dtype=torch.float64)
    for group, weight in enumerate(weights):
        dense = torch.zeros(6, n_latents, dtype=torch.float64).index_put((rows, latents), z * (groups <= group))
        residual = targets - dense @ directions
        expected = expected + weight / sum(weights) * residual.square().mean()
    (3 * expected).backward()
    torch.testing.assert_close(loss.double(), expected)
    torch.testing.assert_close(last.double(), residual.detach(), rtol=1e-5, atol=1e-5)
    assert not last.requires_grad
    for found, right in zip(tensors, plain, strict=True):
        torch.testing.assert_close(found.grad.double(), right.grad, rtol=1e-5, atol=1e-6)
