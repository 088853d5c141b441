"""The sparse products against the dense ones that they replace, values and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.sae.kernels import entries as entries_module
from hsae.sae.kernels.entries import decode_entries, positive_entries, top_k_entries, with_encoder_gradient


def naive_top_k(row: list[float], k: int) -> set[int]:
    best = sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]
    return {j for j in best if row[j] > 0}


@examples(100)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_top_k_takes_the_lower_latent_of_equals(seed, n_latents, k, with_ties):
    k = min(k, n_latents)
    pre = torch.randn(6, n_latents, generator=torch.Generator().manual_seed(seed))
    if with_ties:
        pre = pre.round()
    entries = top_k_entries(pre, k)
    found = [set(entries.latents[entries.rows == i].tolist()) for i in range(6)]
    assert found == [naive_top_k(row, k) for row in pre.tolist()]
    assert sum(map(len, found)) == entries.rows.shape[0]
    assert entries.rows.tolist() == sorted(entries.rows.tolist())


def test_entries_to_dense_and_offsets():
    pre = torch.tensor([[0.0, 2.0, -1.0], [-1.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
    entries = positive_entries(pre)
    assert entries.offsets().tolist() == [0, 1, 1]
    assert torch.equal(entries.to_dense(pre[entries.rows, entries.latents]), pre.relu())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(("n_rows", "n_latents", "k"), [(1, 5, 1), (7, 20, 4), (9, 6, 6), (8, 10, None)])
def test_products_and_gradients_equal_the_dense_ones(monkeypatch, n_rows, n_latents, k, dense):
    monkeypatch.setattr(entries_module, "_DENSE_FROM_SHARE", 0.0 if dense else 1.0)
    generator = torch.Generator().manual_seed(n_rows)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs, target = random(n_rows, 3), random(n_rows, 3)
    leaves = encoder, bias, decoder = random(n_latents, 3), random(n_latents), random(n_latents, 3)
    for leaf in leaves:
        leaf.requires_grad_()
    inputs[0] = 0
    bias.data[:] -= 0.5  # the first row fires nowhere where its bias is negative
    pre = inputs @ encoder.T + bias
    with torch.no_grad():
        entries = positive_entries(pre) if k is None else top_k_entries(pre, k)
    assert entries.dense_is_faster == dense

    z = with_encoder_gradient(inputs, encoder, bias, entries, pre.detach()[entries.rows, entries.latents])
    sparse_out = decode_entries(entries, z, decoder)
    mask = torch.zeros_like(pre).index_put((entries.rows, entries.latents), torch.ones(()).double())
    dense_out = (pre * mask) @ decoder
    torch.testing.assert_close(sparse_out, dense_out)
    sparse = torch.autograd.grad((sparse_out - target).square().sum(), leaves)
    expected = torch.autograd.grad((dense_out - target).square().sum(), leaves)
    for found, reference in zip(sparse, expected, strict=True):
        torch.testing.assert_close(found, reference)


@pytest.mark.parametrize("dense", [False, True])
def test_nothing_fires(monkeypatch, dense):
    monkeypatch.setattr(entries_module, "_DENSE_FROM_SHARE", -1.0 if dense else 1.0)
    inputs = torch.ones(3, 2)
    encoder, bias, decoder = (torch.ones(4, 2).requires_grad_(), torch.zeros(4).requires_grad_(), torch.ones(4, 2))
    entries = positive_entries(torch.full((3, 4), -1.0))
    z = with_encoder_gradient(inputs, encoder, bias, entries, torch.zeros(0))
    out = decode_entries(entries, z, decoder.requires_grad_())
    assert torch.equal(out, torch.zeros(3, 2))
    for gradient in torch.autograd.grad(out.sum() + z.sum(), (encoder, bias, decoder)):
        assert not gradient.any()
