"""The Triton kernels under Triton's interpreter, on tensors of the CPU, against torch. No GPU runs them here.

`test_triton_interpreted.py` starts this file in a process of its own: what is imported first decides.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.sae.small_trainings import CPU, SHORT

from hsae.sae.kernels import entries as entries_module
from hsae.sae.kernels import products
from hsae.sae.kernels.devices import Ways, ways
from hsae.sae.kernels.entries import Entries, decode_entries, positive_entries, top_k_entries, with_encoder_gradient
from hsae.sae.kernels.triton_products import gather_sums, row_dots
from hsae.sae.training.trainer import train


@pytest.fixture
def through_triton(monkeypatch):
    """As if the CPU were a GPU with Triton."""

    def as_cuda(device):
        return Ways("triton", selects_by_blocks=False, keeps_memory=False, counts_are_cheap=False)

    monkeypatch.setattr(products, "ways", as_cuda)
    monkeypatch.setattr(entries_module, "ways", as_cuda)
    monkeypatch.setattr(entries_module, "_DENSE_FROM_SHARE", 1.0)


def random(*shape: int, seed: int = 0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def naive_sums(sources, counts, values, table):
    """One entry after the other, in float64."""
    out = torch.zeros(len(counts), table.shape[1], dtype=torch.float64)
    entry = 0
    for output, count in enumerate(counts):
        for _ in range(count):
            out[output] += values[entry].double() * table[sources[entry]].double()
            entry += 1
    return out


@examples(30)
@given(
    counts=st.lists(st.sampled_from([0, 0, 1, 2, 8, 9, 65]), min_size=1, max_size=4),
    d_model=st.sampled_from([1, 3, 256, 300]),
    uneven=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    seed=st.integers(0, 1000),
)
def test_sums_of_any_counts_equal_the_naive_ones(counts, d_model, uneven, dtype, seed):
    n_table = 5  # fewer than some outputs have entries: sources repeat within an output
    sources = torch.randint(n_table, (sum(counts),), generator=torch.Generator().manual_seed(seed))
    offsets = torch.tensor([0, *counts[:-1]]).cumsum(0)
    values, table = random(sum(counts), seed=seed, dtype=dtype), random(n_table, d_model, seed=seed + 1, dtype=dtype)
    found = gather_sums(sources, offsets, values, table, uneven=uneven)
    assert found.dtype == dtype
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 2e-1, torch.float64: 1e-9}[dtype]
    torch.testing.assert_close(found.double(), naive_sums(sources, counts, values, table), rtol=1e-2, atol=tolerance)
    assert torch.equal(found, gather_sums(sources, offsets, values, table, uneven=uneven))


@examples(20)
@given(
    n_entries=st.sampled_from([0, 1, 7, 8, 9, 40]),
    d_model=st.sampled_from([1, 3, 256, 300]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 1000),
)
def test_dots_equal_those_of_torch(n_entries, d_model, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    rows, latents = (torch.randint(4, (n_entries,), generator=generator) for _ in range(2))
    left, right = random(4, d_model, seed=seed, dtype=dtype), random(4, d_model, seed=seed + 1, dtype=dtype)
    found = row_dots(left, right, rows, latents)
    assert found.dtype == dtype
    expected = (left.double()[rows] * right.double()[latents]).sum(dim=1)
    tolerance = 1e-4 if dtype == torch.float32 else 3e-1
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=tolerance)


def test_an_output_that_has_nearly_all_entries():
    counts = [0, 1, 1000, 0, 2]
    sources = torch.arange(sum(counts)) % 3
    offsets = torch.tensor([0, *counts[:-1]]).cumsum(0)
    values, table = random(sum(counts)), random(3, 4)
    found = gather_sums(sources, offsets, values, table, uneven=True)
    torch.testing.assert_close(found.double(), naive_sums(sources, counts, values, table), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("n_rows", "n_latents", "k"), [(1, 5, 1), (7, 20, 4), (9, 6, 6), (8, 10, None)])
def test_values_and_gradients_equal_the_dense_ones(through_triton, n_rows, n_latents, k):
    inputs, target = random(n_rows, 3, seed=1), random(n_rows, 3, seed=2)
    inputs[0] = -100.0  # this row may fire nowhere
    leaves = encoder, bias, decoder = random(n_latents, 3, seed=3), random(n_latents, seed=4), random(n_latents, 3)
    encoder.abs_()
    for leaf in leaves:
        leaf.requires_grad_()
    pre = inputs @ encoder.T + bias
    with torch.no_grad():
        entries = positive_entries(pre) if k is None else top_k_entries(pre, k)
    assert not entries.dense_is_faster
    z = with_encoder_gradient(inputs, encoder, bias, entries, pre.detach()[entries.rows, entries.latents])
    sparse_out = decode_entries(entries, z, decoder)
    mask = torch.zeros_like(pre).index_put((entries.rows, entries.latents), torch.ones(()))
    dense_out = (pre * mask) @ decoder
    torch.testing.assert_close(sparse_out, dense_out)
    assert not sparse_out[0].any()
    found = torch.autograd.grad((sparse_out - target).square().sum(), leaves)
    expected = torch.autograd.grad((dense_out - target).square().sum(), leaves)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-3)


def test_nothing_fires(through_triton):
    none = torch.zeros(0, dtype=torch.int64)
    entries = Entries(none, none, 3, 4)
    decoder, values = torch.ones(4, 2).requires_grad_(), torch.zeros(0).requires_grad_()
    out = decode_entries(entries, values, decoder)
    assert torch.equal(out, torch.zeros(3, 2))
    of_decoder, of_values = torch.autograd.grad(out.sum(), (decoder, values))
    assert torch.equal(of_decoder, torch.zeros(4, 2))
    assert of_values.shape == (0,)


def test_a_training_comes_to_the_same_as_on_the_cpu(request, planted, as_rows):
    rows = as_rows(planted(40, 4, 6, 2)[0])
    config = SHORT["topk"].model_copy(update={"n_steps": 2, "batch_size": 8, "dead_after_steps": 1})
    on_cpu = train(config, rows, device=CPU)
    request.getfixturevalue("through_triton")
    found = train(config, rows, device=CPU)
    for name, tensor in on_cpu.sae.to_tensors().items():
        torch.testing.assert_close(found.sae.to_tensors()[name], tensor, rtol=1e-3, atol=1e-4)


def test_other_devices_use_dense_products():
    assert ways(torch.device("meta")).sparse_product == "none"
    assert ways(CPU).sparse_product == "embedding_bag"
    assert ways(torch.device("cuda")).sparse_product == "triton"
