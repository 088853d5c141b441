"""The sparse products against the dense ones that they replace, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsae.sae.sparse_kernels import decode_sparse, selected_pre_activations, to_dense, top_k_indices


def naive_top_k(row: list[float], k: int) -> list[int]:
    return sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_top_k_takes_the_lower_latent_of_equals(seed, n_latents, k, with_ties):
    k = min(k, n_latents)
    pre = torch.randn(6, n_latents, generator=torch.Generator().manual_seed(seed))
    if with_ties:
        pre = pre.round()
    indices = top_k_indices(pre, k)
    assert indices.shape == (6, k)
    for row, found in zip(pre.tolist(), indices.tolist(), strict=True):
        kept = {j for j in found if row[j] > 0}
        assert kept == {j for j in naive_top_k(row, k) if row[j] > 0}
        assert len(set(found)) == k


@pytest.mark.parametrize(("batch", "n_latents", "k"), [(1, 5, 1), (7, 20, 4), (9, 6, 6)])
def test_products_and_gradients_equal_the_dense_ones(batch, n_latents, k):
    generator = torch.Generator().manual_seed(batch)

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    centred, encoder, bias, decoder = leaf(batch, 3), leaf(n_latents, 3), leaf(n_latents), leaf(n_latents, 3)
    target = torch.randn(batch, 3, generator=generator, dtype=torch.float64)
    pre = centred @ encoder.T + bias
    indices = top_k_indices(pre.detach(), k)

    values = selected_pre_activations(centred, encoder, bias, pre.detach(), indices)
    sparse_out = decode_sparse(values.relu(), indices, decoder)
    dense_out = to_dense(pre.gather(1, indices).relu(), indices, n_latents) @ decoder
    torch.testing.assert_close(sparse_out, dense_out)
    leaves = (centred, encoder, bias, decoder)
    sparse = torch.autograd.grad((sparse_out - target).square().sum(), leaves)
    dense = torch.autograd.grad((dense_out - target).square().sum(), leaves)
    for found, expected in zip(sparse, dense, strict=True):
        torch.testing.assert_close(found, expected)
