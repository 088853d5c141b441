"""The scoring functions on torch's fake CUDA tensors: shapes and devices, by torch's own rules for every operation.

Fake tensors have no values. What a function does between the upload of its arrays and the one download of its results
runs, because there no shape depends on a value. Uploads, downloads and whole analyses do not: NumPy's arrays come in
and go out, and blocks are cut by the numbers of non-zeros. For them an `NumericCuda` stands in (test_same_bits).
"""

import pytest
import torch
from tests.devices.numeric.cuda_names import cuda_may_be_named
from torch._subclasses.fake_tensor import FakeTensorMode

from hsae.hierarchy.kernels import device as kernels
from hsae.hierarchy.kernels import nonzeros
from hsae.hierarchy.scores.pair_sums import PairSums
from hsae.hierarchy.statistics import class_sums, ranks

N, N_LATENTS, N_NODES = 50, 7, 11


@pytest.fixture
def fake():
    with cuda_may_be_named(), FakeTensorMode():
        yield


def _cuda(*shape, dtype=torch.float64):
    return torch.zeros(shape, dtype=dtype, device="cuda:0")


def _assert_all_on_cuda(parts):
    assert {name: part.device.type for name, part in parts.items()} == dict.fromkeys(parts, "cuda")


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_ranks(fake, threshold):
    value, n_nonzero = _cuda(N, dtype=torch.float32), _cuda(N_LATENTS, dtype=torch.int64)
    found = ranks._of_block(value, n_nonzero, 100, threshold, 16)
    _assert_all_on_cuda(found)
    assert found["rank_excess"].shape == (N,)
    assert found["strongest"].shape == (N_LATENTS, 16)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_sums_by_class(fake, threshold):
    label, value, rank = (_cuda(N, dtype=dtype) for dtype in (torch.int64, torch.float32, torch.int32))
    n_entries = _cuda(N_LATENTS, dtype=torch.int64)
    found = class_sums._of_block(label, value, rank, n_entries, class_bits=5, threshold=threshold)
    _assert_all_on_cuda(found)
    assert found["mass"].shape == (N,)
    assert found["counts"].shape == (N_LATENTS,)


def test_scores_of_pairs(fake):
    pairs = PairSums(
        n_images=100,
        n_node=_cuda(N_NODES, 1),
        n_fire=_cuda(1, N_LATENTS),
        rank_variance=_cuda(1, N_LATENTS),
        n_both=_cuda(N_NODES, N_LATENTS),
        rank_deviation=_cuda(N_NODES, N_LATENTS),
        mass=_cuda(N_NODES, N_LATENTS),
        latent_mass=_cuda(1, N_LATENTS),
    )
    names = ("precision", "recall", "f1", "f1_adjusted", "auroc", "z", "mass_share", "mean_inside", "mean_outside")
    found = {name: getattr(pairs, name)() for name in names}
    _assert_all_on_cuda(found)
    assert {part.shape for part in found.values()} == {(N_NODES, N_LATENTS)}


def test_row_sums_and_non_zeros(fake):
    sums = kernels.row_sums(_cuda(N, N_LATENTS), _cuda(N_NODES, dtype=torch.int64))
    assert (sums.device.type, sums.shape) == ("cuda", (N_NODES, N_LATENTS))
    _assert_all_on_cuda(nonzeros._first_nonzeros(_cuda(N, N_LATENTS, dtype=torch.float32), 20))


def test_a_tensor_without_its_device_is_found(fake, monkeypatch):
    """The mistake that these tests are for."""
    monkeypatch.setattr(torch, "arange", lambda *args, device=None, made=torch.arange: made(*args))
    value, n_nonzero = _cuda(N, dtype=torch.float32), _cuda(N_LATENTS, dtype=torch.int64)
    with pytest.raises(RuntimeError, match=r"device"):
        ranks._of_block(value, n_nonzero, 100, 0.0, 16)
