"""The baselines on an emulated GPU: how often the host waits, and how much it is sent at once."""

import numpy as np
import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter
from tests.hierarchy.all_bases import run

from hsae.hierarchy.controls.bases import kmeans
from hsae.hierarchy.controls.bases.columns import LinearColumns, both_sides
from hsae.hierarchy.controls.bases.kmeans import first_centroids, lloyd, means
from hsae.hierarchy.controls.dense_auroc import dense_auroc
from hsae.hierarchy.controls.thresholds import thresholded
from hsae.hierarchy.kernels import blocks

N_IMAGES, N_DIRECTIONS, WIDTH = 300, 20, 7


def _columns(device, *, is_signed):
    """Of integers, whose products have the same bits however they are added up."""
    generator = torch.Generator().manual_seed(0)
    rows, directions = (torch.randint(-99, 100, (n, 12), generator=generator).float() for n in (N_IMAGES, N_DIRECTIONS))
    order = both_sides(np.arange(N_DIRECTIONS)) if is_signed else np.arange(N_DIRECTIONS)
    scale = None if is_signed else 2.0 ** torch.randint(-2, 3, (N_IMAGES,), generator=generator).to(device)
    return LinearColumns(rows.to(device), directions.to(device), order, is_signed=is_signed, scale=scale)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(blocks, "_BLOCK_VALUES_GPU", 1)
    monkeypatch.setattr(blocks, "_MIN_BLOCK_COLUMNS", WIDTH)


@pytest.fixture
def passes(monkeypatch):
    """Those of k-means over its points."""
    found = []
    plain = kmeans._nearest

    def counted(*args):
        found.append(len(args[0]))
        return plain(*args)

    monkeypatch.setattr(kmeans, "_nearest", counted)
    return found


def _assert_equal(found, expected):
    for name in ("indptr", "image", "activation"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("in_sample", [False, True])
def test_a_block_of_columns_above_their_thresholds_waits_once(small_blocks, is_signed, in_sample):
    def parts(device):
        columns = _columns(device, is_signed=is_signed)
        return (columns, columns) if in_sample else (columns.on(np.arange(200)), columns.on(np.arange(150, 300)))

    select, score = parts("cpu")
    n_fire = np.linspace(60, 1, select.n_columns).astype(np.int64)
    expected = thresholded(select, score, n_fire)
    with NumericCuda():
        select, score = parts("cuda:0")
        with SyncCounter("cuda") as syncs:
            found = thresholded(select, score, n_fire, device="cuda:0")
    n_blocks = -(-select.n_columns // WIDTH)
    assert n_blocks >= 3
    assert syncs.total <= n_blocks, syncs
    for one, other in zip(found, expected, strict=True):
        _assert_equal(one, other)


def test_columns_that_fire_on_more_images_than_expected_are_fetched_again(small_blocks):
    """Select images on which they hardly fire; score images on which all do."""
    rows = torch.cat((torch.zeros(40, 1), torch.ones(4000, 1)))
    rows[:40, 0] = torch.linspace(0, 0.5, 40)

    def fired(device):
        columns = LinearColumns(rows.to(device), torch.ones(WIDTH, 1).to(device), np.arange(WIDTH))
        parts = columns.on(np.arange(40)), columns.on(np.arange(40, 4040))
        with SyncCounter("cuda") as syncs:
            return thresholded(*parts, np.ones(WIDTH, np.int64), device=device), syncs.total

    expected, _ = fired("cpu")
    with NumericCuda():
        found, n_waits = fired("cuda:0")
    assert n_waits == 2
    assert len(expected[1].image) == 4000 * WIDTH
    for one, other in zip(found, expected, strict=True):
        _assert_equal(one, other)


def test_a_block_of_columns_before_thresholds_waits_once(planted_case, small_blocks, monkeypatch):
    """Also where the images under the nodes are sent in several pieces."""
    case = planted_case
    monkeypatch.setattr("hsae.hierarchy.controls.dense_auroc._BLOCK_MEMBERS", 50)
    activations = torch.from_numpy(case.neurons.astype(np.float32))
    n_columns, n_nodes = activations.shape[1], len(case.taxonomy.synsets)
    assert n_columns > 2 * WIDTH
    column, node = (axis.ravel() for axis in np.indices((n_columns, n_nodes)))

    def auroc(device):
        columns = LinearColumns(activations.to(device), None, np.arange(n_columns))
        with SyncCounter("cuda") as syncs:
            return dense_auroc(columns, case.labels, case.taxonomy.closure, (column, node), device=device), syncs

    expected, _ = auroc("cpu")
    with NumericCuda():
        found, syncs = auroc("cuda:0")
    assert syncs.total <= -(-n_columns // WIDTH), syncs
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found).any()


def test_k_means_waits_once_per_pass_over_the_points(monkeypatch, passes):
    """Whatever the number of blocks of points."""
    points = torch.randn(700, 6, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(kmeans, "_BLOCK_POINTS", 50)
    monkeypatch.setattr(kmeans, "_BLOCK_NUMBERS_GPU", 1)
    monkeypatch.setattr(kmeans, "_DRAWS", 4)
    start = first_centroids(points, 40, np.random.default_rng(0))
    cluster = lloyd(points, start)
    used, size, mean = means(points, cluster)
    passes.clear()
    with NumericCuda() as gpu:
        there = points.to("cuda:0")
        with SyncCounter("cuda") as syncs:
            found_start = first_centroids(there, 40, np.random.default_rng(0))
            found = lloyd(there, found_start)
        assert len(passes) > 6
        assert syncs.total <= len(passes), syncs
        assert gpu.n_bytes_to_host <= len(passes) * len(points) * 16, "the points stay on the device"
        found_used, found_size, found_mean = means(there, found)
        mean_there = found_mean.cpu().numpy()
    np.testing.assert_array_equal(found_start, start)
    np.testing.assert_array_equal(found, cluster)
    np.testing.assert_array_equal(found_used, used)
    np.testing.assert_array_equal(found_size, size)
    np.testing.assert_allclose(mean_there, mean, rtol=1e-13, atol=1e-15)


@pytest.mark.slow
def test_a_whole_analysis_waits_a_few_times_per_basis(planted_case, passes):
    """Every block is the only one of its kind here, so that no basis has more than these of them."""
    with NumericCuda(), SyncCounter("cuda") as syncs:
        found = run(planted_case, device="cuda:0")
    assert len(found) > 10
    assert syncs.total <= len(passes) + 5 * len(found), syncs


def test_blocks_are_as_large_as_suits_the_device(monkeypatch):
    """On the CPU they fit a cache; a GPU gets 2^26 values, but no fewer columns or points than a CPU."""
    n_of = {
        (n_images, on_gpu): [block.stop - block.start for block in blocks.column_blocks(2000, n_images, on_gpu=on_gpu)]
        for n_images in (50_000, 1_300_000)
        for on_gpu in (False, True)
    }
    assert n_of[50_000, False][:2] == [83, 83]
    assert n_of[50_000, True] == [1342, 658]
    assert n_of[1_300_000, False][0] == n_of[1_300_000, True][0] == 64
    monkeypatch.setattr(kmeans, "_BLOCK_POINTS", 50)
    monkeypatch.setattr(kmeans, "_BLOCK_NUMBERS_GPU", 150 * 8)
    points = torch.randn(700, 6, generator=torch.Generator().manual_seed(0))
    with NumericCuda() as gpu:
        there = points.to("cuda:0")
        for n_centroids, n_blocks in ((8, 5), (600, 14)):
            before = gpu.n_products
            kmeans._nearest(there, there[:n_centroids].double())
            assert gpu.n_products - before == n_blocks
