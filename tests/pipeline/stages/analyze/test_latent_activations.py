"""Encoding images on a GPU that is emulated, and the memory that it takes on the CPU."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter

from hsae.hierarchy.kernels import back_off
from hsae.hierarchy.kernels.back_off import forget_parts
from hsae.pipeline.stages import latent_activations
from hsae.pipeline.stages.activation_reader import PlainImages
from hsae.pipeline.stages.latent_activations import encode_images
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

D_MODEL, N_SHARDS, ROWS = 8, 3, 50


@pytest.fixture(autouse=True)
def whole_blocks():
    forget_parts()
    yield
    forget_parts()


def _sae(seed):
    sae = SparseAutoencoder(SaeConfig(expansion=200), D_MODEL)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.randn(200 * D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(seed)))
        sae.encoder_bias.fill_(-6.0)
    return sae


def _encode(monkeypatch, device, n_tokens, *, n_further=0):
    generator = torch.Generator().manual_seed(0)

    def shards(context, manifest):
        for shard in range(N_SHARDS):
            x = torch.randn(ROWS, n_tokens, D_MODEL, generator=generator)
            yield PlainImages(x, torch.arange(shard * ROWS, (shard + 1) * ROWS, dtype=torch.int32))

    monkeypatch.setattr(latent_activations, "iterate_plain_images", shards)
    manifest: Any = SimpleNamespace(
        n_rows=2 * N_SHARDS * ROWS * n_tokens, n_images=N_SHARDS * ROWS, n_tokens=n_tokens, n_views=2, d_model=D_MODEL
    )
    context: Any = SimpleNamespace(device=torch.device(device), check=lambda: None)
    return encode_images([_sae(0), _sae(1)], manifest, context, n_further=n_further)


def _assert_same(found, expected):
    for one, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(one.z.toarray(), other.z.toarray())
        np.testing.assert_array_equal(one.z.indices, other.z.indices)
        np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(found[1].mean, expected[1].mean)
    if expected[1].pooled is None:
        assert found[1].pooled is None
    else:
        np.testing.assert_array_equal(found[1].pooled.toarray(), expected[1].pooled.toarray())


@pytest.mark.parametrize("n_tokens", [1, 3])
def test_a_gpu_sends_back_what_is_not_zero(monkeypatch, n_tokens):
    expected = _encode(monkeypatch, "cpu", n_tokens)
    with NumericCuda() as gpu, SyncCounter("cuda") as syncs:
        found = _encode(monkeypatch, "cuda:0", n_tokens)
        assert gpu.n_bytes == 0, "the SAEs stay on the device while their latents are scored"
    _assert_same(found, expected)
    n_nonzero = sum(one.z.nnz for one in found[0])
    n_dense = sum(one.z.shape[0] * one.z.shape[1] for one in found[0])
    assert 0 < n_nonzero < n_dense / 10
    weights = sum(parameter.numel() * 4 for parameter in _sae(0).state_dict().values())
    assert 8 * n_nonzero < gpu.n_bytes_to_host - 2 * weights < 4 * n_dense / 2  # dense ones take 4 bytes each
    n_blocks, n_parameters = N_SHARDS, len(_sae(0).state_dict())
    n_of_saes = 2 * 2 * n_parameters + 1  # to the device and back; and no density is known before the first block
    assert syncs.total <= n_blocks + n_of_saes, syncs


def test_with_little_memory_the_products_are_the_same(monkeypatch):
    """Fewer of them at a time. The emulated GPU adds up a product in an order that its size decides, as cuBLAS does."""
    monkeypatch.setattr(latent_activations, "_ROWS_PER_PRODUCT_GPU", 15)
    with NumericCuda(products_by_size=True) as gpu:
        expected = _encode(monkeypatch, "cuda:0", 3)
    with NumericCuda(memory=int(0.6 * gpu.n_bytes_peak), products_by_size=True):
        _assert_same(_encode(monkeypatch, "cuda:0", 3), expected)
    assert back_off._n_parts[torch.device("cuda:0")] > 1


def test_further_images_come_behind_without_a_copy(monkeypatch):
    _, plain = _encode(monkeypatch, "cpu", 1)
    _, raw = _encode(monkeypatch, "cpu", 1, n_further=7)
    further = np.arange(7 * D_MODEL, dtype=np.float32).reshape(7, D_MODEL)
    everything = raw.followed_by(further)
    assert np.shares_memory(everything, raw.mean)
    np.testing.assert_array_equal(everything, np.concatenate((plain.mean, further)))


_ONE_COPY = """
import resource, sys
from types import SimpleNamespace
from typing import Any
import torch
from hsae.pipeline.stages import latent_activations
from hsae.pipeline.stages.activation_reader import PlainImages
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

D_MODEL, ROWS = 512, 1024

def growth(n_shards):
    def shards(context, manifest):
        for shard in range(n_shards):
            yield PlainImages(torch.full((ROWS, 1, D_MODEL), 0.5), torch.arange(ROWS, dtype=torch.int32))
    latent_activations.iterate_plain_images = shards
    manifest = SimpleNamespace(n_rows=n_shards * ROWS, n_tokens=1, n_views=1, d_model=D_MODEL)
    context: Any = SimpleNamespace(device=torch.device("cpu"), check=lambda: None)
    sae = SparseAutoencoder(SaeConfig(expansion=1), D_MODEL)
    with torch.no_grad():
        sae.encoder_bias.fill_(-1e6)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    latent_activations.encode_images([sae], manifest, context)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024

torch.set_num_threads(1)
growth(4)
n_shards = 48
print(growth(n_shards) / (n_shards * ROWS * D_MODEL * 4))
"""


@pytest.mark.slow
def test_memory_holds_the_raw_activations_once():
    """100 MB of them; a list of shards and their concatenation took twice that."""
    done = subprocess.run([sys.executable, "-c", _ONE_COPY], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3
