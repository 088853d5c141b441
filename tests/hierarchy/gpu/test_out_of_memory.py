"""Analyses on an emulated GPU that runs out of memory: smaller blocks, the same bits."""

import numpy as np
import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.hierarchy.all_bases import assert_same, run
from tests.hierarchy.gpu.cases import assert_equal, every_number

from hsae.hierarchy.controls.bases.columns import LinearColumns
from hsae.hierarchy.controls.bases.kmeans import _nearest
from hsae.hierarchy.controls.dense_auroc import dense_auroc
from hsae.hierarchy.controls.thresholds import thresholded
from hsae.hierarchy.kernels import back_off
from hsae.hierarchy.kernels.back_off import forget_parts

pytestmark = pytest.mark.slow  # the work is done again for every error


@pytest.fixture(autouse=True)
def whole_blocks():
    forget_parts()
    yield
    forget_parts()


@pytest.mark.parametrize("share", [0.6, 0.3])
def test_with_less_memory_the_scores_are_the_same(planted_case, share):
    expected = every_number(planted_case, "cpu")
    with NumericCuda() as gpu:
        every_number(planted_case, "cuda:0")
    with NumericCuda(memory=int(share * gpu.n_bytes_peak)) as small:
        assert_equal(every_number(planted_case, "cuda:0"), expected)
    assert small.n_bytes_peak <= share * gpu.n_bytes_peak
    assert back_off._n_parts[torch.device("cuda:0")] > 1


def test_a_whole_analysis_goes_on(planted_case):
    """The SAE and its shuffles. What baselines are made from is on the device as a whole, and must fit."""
    expected = run(planted_case, controls=())
    with NumericCuda() as gpu:
        run(planted_case, controls=(), device="cuda:0")
    with NumericCuda(memory=gpu.n_bytes_peak // 2):
        found = run(planted_case, controls=(), device="cuda:0")
    assert_same(expected, found)
    assert back_off._n_parts


@pytest.mark.parametrize("number", [1, 2, 5, 20])
def test_an_error_of_cublas_at_any_call(planted_case, monkeypatch, number):
    """Whichever block is the one for which there is no memory."""
    expected = every_number(planted_case, "cpu")
    monkeypatch.setattr("hsae.hierarchy.scores.node_scores._BLOCK_LATENTS", 4)
    n_sums = 0
    make = torch.segment_reduce

    def fails(*args, **kwargs):
        nonlocal n_sums
        n_sums += 1
        if n_sums == number:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return make(*args, **kwargs)

    monkeypatch.setattr(torch, "segment_reduce", fails)
    with NumericCuda():
        assert_equal(every_number(planted_case, "cuda:0"), expected)
    assert n_sums > number


def _of_baselines(case):
    """What is computed of projections: the columns above their thresholds, AUROC before these, nearest centroids."""
    generator = torch.Generator().manual_seed(0)
    points, directions = (
        torch.randn(len(case.labels), 24, generator=generator),
        torch.randn(70, 24, generator=generator),
    )
    columns = LinearColumns(points.to("cuda:0"), directions.to("cuda:0"), np.arange(70))
    above, _ = thresholded(columns, columns, np.full(70, 9), device="cuda:0")
    pairs = np.arange(0, 70, 7), np.arange(10) % len(case.taxonomy.synsets)
    auroc = dense_auroc(columns, case.labels, case.taxonomy.closure, pairs, device="cuda:0")
    nearest, squared = _nearest(points.to("cuda:0"), directions.double().to("cuda:0"))
    return {"image": above.image, "value": above.activation, "auroc": auroc, "nearest": nearest, "squared": squared}


def test_products_of_the_baselines_have_one_size_whatever_fits(planted_case):
    """The emulated GPU adds up a product in an order that its size decides, as cuBLAS does; one finds no memory."""
    with NumericCuda(products_by_size=True) as gpu:
        expected = _of_baselines(planted_case)
    assert gpu.n_products >= 3
    for number in range(1, gpu.n_products + 1):
        with NumericCuda(products_by_size=True, no_memory_for=number) as small:
            assert_equal(_of_baselines(planted_case), expected)
        assert small.n_products == gpu.n_products + 1


def test_what_does_not_fit_at_all_is_an_error(planted_case):
    with NumericCuda(memory=100), pytest.raises(torch.OutOfMemoryError):
        every_number(planted_case, "cuda:0")
