"""The host waits for the GPU once per block of latents, whatever is scored."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter
from tests.hierarchy.gpu.cases import several_labels

from hsae.hierarchy.kernels import blocks, closure_product
from hsae.hierarchy.kernels.blocks import latent_blocks
from hsae.hierarchy.kernels.closure_product import ClosureProduct
from hsae.hierarchy.kernels.nonzeros import NonZeros
from hsae.hierarchy.scores import node_scores
from hsae.hierarchy.scores.node_scores import NodeSums, iter_node_scores, score_pairs
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

BLOCK_NONZEROS = 200


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK_NONZEROS_GPU", BLOCK_NONZEROS)
    monkeypatch.setattr(node_scores, "_BLOCK_LATENTS", 5)
    monkeypatch.setattr(node_scores, "_BLOCK_LATENTS_GPU", 5)


def _n_blocks(ranked):
    n_blocks = len(list(latent_blocks(ranked.indptr, on_gpu=True)))
    assert n_blocks > 3
    return n_blocks


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_ranks(planted_case, small_blocks, threshold):
    with NumericCuda(), SyncCounter("cuda") as syncs:
        ranked = rank_activations(planted_case.z, threshold=threshold, device="cuda:0")
    assert syncs.total <= _n_blocks(ranked), syncs


@pytest.mark.parametrize("threshold", [0.0, 1.5])
@pytest.mark.parametrize("has_several", [False, True])
def test_sums_by_class(planted_case, small_blocks, threshold, has_several):
    n_classes = len(planted_case.taxonomy.classes)
    ranked = rank_activations(planted_case.z, threshold=threshold)
    labels = planted_case.labels
    if has_several:
        labels = several_labels(labels, n_classes, np.random.default_rng(0))
    with NumericCuda(), SyncCounter("cuda") as syncs:
        sum_by_class(ranked, labels, n_classes, device="cuda:0")
    assert syncs.total <= _n_blocks(ranked), syncs


def test_scores_of_all_pairs(planted_case, small_blocks):
    sums = sum_by_class(rank_activations(planted_case.z), planted_case.labels, len(planted_case.taxonomy.classes))
    with NumericCuda(), SyncCounter("cuda") as syncs:
        n_blocks = sum(1 for _ in iter_node_scores(sums, planted_case.taxonomy.closure, device="cuda:0"))
    assert n_blocks > 3
    assert syncs.total <= n_blocks, syncs


def test_sums_of_a_block_wait_for_nothing(planted_case, small_blocks):
    sums = sum_by_class(rank_activations(planted_case.z), planted_case.labels, len(planted_case.taxonomy.classes))
    with NumericCuda(), SyncCounter("cuda") as syncs:
        node_sums = NodeSums(sums, planted_case.taxonomy.closure, device="cuda:0")
        for latents in node_sums.latent_runs():
            pairs = node_sums.block(latents, with_mass=True)
            pairs.f1(), pairs.auroc(), pairs.z(), pairs.mean_outside()
    assert syncs.total == 0, syncs


def test_chosen_pairs(planted_case):
    sums = sum_by_class(rank_activations(planted_case.z), planted_case.labels, len(planted_case.taxonomy.classes))
    chosen = np.arange(20, dtype=np.int32)
    with NumericCuda(), SyncCounter("cuda") as syncs:
        score_pairs(NodeSums(sums, planted_case.taxonomy.closure, device="cuda:0"), chosen, chosen)
    assert syncs.total <= 1, syncs


def test_the_closure_is_put_on_the_device_once(planted_case, small_blocks, monkeypatch):
    made = []
    make = closure_product._Rows.__init__

    def counted(self, matrix, device):
        made.append(matrix.shape)
        make(self, matrix, device)

    monkeypatch.setattr(closure_product._Rows, "__init__", counted)
    sums = sum_by_class(rank_activations(planted_case.z), planted_case.labels, len(planted_case.taxonomy.classes))
    with NumericCuda():
        node_sums = NodeSums(sums, planted_case.taxonomy.closure, device="cuda:0")
        n_blocks = sum(1 for latents in node_sums.latent_runs() if node_sums.block(latents, with_mass=True))
    assert n_blocks > 3
    assert len(made) == 2  # the plain product, and that of running sums


def test_the_closure_is_never_dense_on_the_device():
    """2,000 classes under 3,000 nodes, eight each: a dense matrix of them takes 48 MB, and nothing here comes near."""
    rng = np.random.default_rng(0)
    n_classes, n_nodes, width = 2000, 3000, 16
    rows = np.repeat(np.arange(n_nodes), 8)
    matrix = sp.csr_array(
        (np.ones(len(rows)), (rows, rng.integers(0, n_classes, len(rows)))), shape=(n_nodes, n_classes)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    right = rng.integers(-(2**40), 2**40, (n_classes, width)).astype(np.float64)
    with NumericCuda() as gpu:
        product = ClosureProduct(matrix, "cuda:0")
        on_device = torch.from_numpy(right).to("cuda:0")
        found = product(on_device).cpu(), product.of_integers(on_device.clone()).cpu()
        assert gpu.n_bytes_peak < n_nodes * n_classes * 8 / 4
    for result in found:
        np.testing.assert_array_equal(result, matrix @ right)


def test_a_dense_matrix_is_compacted_with_one_wait_once_its_density_is_known():
    rng = np.random.default_rng(0)
    dense = (rng.exponential(size=(3, 40, 700)) * (rng.random((3, 40, 700)) < 0.5)).astype(np.float32)
    dense[1, 3] = 0
    with NumericCuda() as gpu:
        nonzeros = NonZeros()
        found = []
        for number, block in enumerate(dense):
            z = torch.from_numpy(block).to("cuda:0")
            with SyncCounter("cuda") as syncs:
                found.append(nonzeros.of(z))
            assert syncs.total <= (2 if number == 0 else 1), syncs
    for block, sparse in zip(dense, found, strict=True):
        np.testing.assert_array_equal(sparse.toarray(), block)
        assert (np.diff(sparse.indices) > 0).sum() >= sparse.nnz - len(block)
    assert gpu.n_bytes_to_host < 2 * 8 * np.count_nonzero(dense)


def test_blocks_are_as_large_as_suits_the_device(planted_case):
    """On the CPU they fit a cache; a GPU gets 2^24 non-zeros, and 4,096 latents where their scores fit its memory."""
    indptr = np.arange(0, (1 << 25) + 1, 1 << 12)
    assert len(list(latent_blocks(indptr))) == 512
    assert len(list(latent_blocks(indptr, on_gpu=True))) == 2
    sums = sum_by_class(rank_activations(planted_case.z), planted_case.labels, len(planted_case.taxonomy.classes))
    many = dataclasses.replace(sums, n_nonzero=np.zeros(10_000, np.int64), tie_term=np.zeros(10_000))
    many = dataclasses.replace(many, indptr=np.zeros(10_001, np.int64))
    node_sums = NodeSums(many, planted_case.taxonomy.closure, device="cuda:0")
    assert [runs.stop - runs.start for runs in node_sums.latent_runs()] == [4096, 4096, 1808]
    assert next(node_sums.latent_runs(device="cpu")) == slice(0, 252)
