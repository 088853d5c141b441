"""The Triton kernels on a GPU, against torch in float64 on the CPU; `interpreted_products.py` has them without one."""

import pytest
import torch

from hsae.sae.kernels import entries as entries_module
from hsae.sae.kernels.entries import decode_entries, positive_entries, top_k_entries, with_encoder_gradient

GPU = torch.device("cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
# Sizes that are no multiple of a block, an output that most entries fall into, outputs without any.
COUNTS = [[0, 1, 3000, 0, 2], [7] * 130, [64, 65, 63, 0], [1]]
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float64: 1e-9}


@pytest.fixture
def products():
    return pytest.importorskip("hsae.sae.kernels.triton_products", reason="Triton is not installed")


def random(*shape: int, seed: int = 0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_near(found, expected):
    """Relative to the greatest value: sums of many terms lose digits where they cancel."""
    error = (found.cpu().double() - expected).abs().max() / expected.abs().max().clamp(min=1e-12)
    assert error <= TOLERANCE[found.dtype], float(error)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("d_model", [1, 1536])
@pytest.mark.parametrize("counts", COUNTS, ids=len)
@pytest.mark.parametrize("uneven", [False, True])
def test_sums_and_their_bits(products, counts, d_model, dtype, uneven):
    sources = torch.randint(50, (sum(counts),), generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([0, *counts[:-1]]).cumsum(0)
    values, table = random(sum(counts), dtype=dtype), random(50, d_model, seed=1, dtype=dtype)
    given = [each.to(GPU) for each in (sources, offsets, values, table)]
    found = products.gather_sums(*given, uneven=uneven)
    owner = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    expected = torch.zeros(len(counts), d_model, dtype=torch.float64)
    expected.index_add_(0, owner, values.double()[:, None] * table.double()[sources])
    assert_near(found, expected)
    assert torch.equal(found, products.gather_sums(*given, uneven=uneven)), "the same sums have other bits"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("d_model", [1, 1536])
@pytest.mark.parametrize("n_entries", [1, 130, 5000])
def test_dots(products, n_entries, d_model, dtype):
    generator = torch.Generator().manual_seed(0)
    rows, latents = (torch.randint(40, (n_entries,), generator=generator) for _ in range(2))
    left, right = random(40, d_model, dtype=dtype), random(40, d_model, seed=1, dtype=dtype)
    found = products.row_dots(*(each.to(GPU) for each in (left, right, rows, latents)))
    assert_near(found, (left.double()[rows] * right.double()[latents]).sum(dim=1))


@pytest.mark.parametrize(("n_rows", "n_latents", "k"), [(300, 2000, 32), (129, 257, 1), (64, 64, 64), (300, 500, None)])
def test_values_and_gradients(products, monkeypatch, n_rows, n_latents, k):
    """Through the sparse products however many latents fire, also where nearly all entries are of a few latents."""
    monkeypatch.setattr(entries_module, "_DENSE_FROM_SHARE", 2.0)
    inputs, target = random(n_rows, 48, seed=1), random(n_rows, 48, seed=2)
    bias = random(n_latents, seed=4)
    bias[:3] += 100.0
    leaves = [random(n_latents, 48, seed=3), bias, random(n_latents, 48, seed=5)]

    def leaves_on(device, dtype):
        return [each.to(device, dtype, copy=True).requires_grad_() for each in leaves]

    def on_the_gpu():
        x, (encoder, bias, decoder) = inputs.to(GPU), leaves_on(GPU, torch.float32)
        with torch.no_grad():
            pre = x @ encoder.T + bias
            entries = positive_entries(pre) if k is None else top_k_entries(pre, k)
        assert not entries.dense_is_faster
        z = with_encoder_gradient(x, encoder, bias, entries, pre[entries.rows, entries.latents])
        out = decode_entries(entries, z, decoder)
        gradients = torch.autograd.grad((out - target.to(GPU)).square().mean(), (encoder, bias, decoder))
        return entries, [out.detach(), *gradients]

    entries, found = on_the_gpu()
    for one, other in zip(found, on_the_gpu()[1], strict=True):
        assert torch.equal(one, other), "the same products have other bits"
    encoder, bias, decoder = leaves_on(torch.device("cpu"), torch.float64)
    pre = inputs.double() @ encoder.T + bias
    one_each = torch.ones((), dtype=torch.float64)
    mask = torch.zeros_like(pre).index_put((entries.rows.cpu(), entries.latents.cpu()), one_each)
    out = (pre * mask) @ decoder
    gradients = torch.autograd.grad((out - target).square().mean(), (encoder, bias, decoder))
    for one, reference in zip(found, [out.detach(), *gradients], strict=True):
        assert_near(one, reference)
