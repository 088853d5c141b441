"""The primitives on every device that is there, and whole analyses on a GPU against the CPU."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.examples import examples
from tests.hierarchy.all_bases import run

from hsae.hierarchy.kernels.dense_columns import DenseColumns
from hsae.hierarchy.kernels.device import segment_count, segment_sum, sort_values, to_host
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.statistics import ranks
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)
no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
on_every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, no_cuda])])


@on_every_device
@examples(30)
@given(seed=seeds)
def test_primitives_equal_numpys(device, seed):
    rng = np.random.default_rng(seed)
    n, n_cells = int(rng.integers(0, 200)), int(rng.integers(1, 9))
    keys, cell = rng.integers(-5, 5, n), np.sort(rng.integers(0, n_cells, n))
    value = rng.exponential(size=n)
    cells, lengths = (torch.from_numpy(part).to(device) for part in (cell, np.bincount(cell, minlength=n_cells)))
    np.testing.assert_array_equal(sort_values(torch.from_numpy(keys.copy()).to(device)).cpu(), np.sort(keys))
    counts = segment_count(cells, torch.from_numpy(keys).to(device), lengths)
    np.testing.assert_array_equal(counts.cpu(), np.bincount(cell, keys, minlength=n_cells))
    sums = segment_sum(cells, torch.from_numpy(value).to(device), lengths)
    np.testing.assert_array_equal(sums.cpu(), np.bincount(cell, value, minlength=n_cells))
    dense = np.where(rng.random((n_cells, 4)) < 0.5, rng.integers(1, 99, (n_cells, 4)), 0)
    columns = sp.csc_array(dense)
    rebuilt = DenseColumns(columns.indptr, columns.indices, n_cells, device)(columns.data)
    np.testing.assert_array_equal(rebuilt.cpu(), dense)


@on_every_device
def test_float_sums_are_the_same_bits_every_time(device):
    """Many more values than a thread gets at least."""
    rng = np.random.default_rng(0)
    cell, value = np.sort(rng.integers(0, 50, 300_000)), rng.lognormal(0, 9, 300_000)
    runs, values, lengths = (torch.from_numpy(part).to(device) for part in (cell, value, np.bincount(cell)))
    first = segment_sum(runs, values, lengths)
    assert all(torch.equal(segment_sum(runs, values, lengths), first) for _ in range(5))
    np.testing.assert_array_equal(first.cpu(), np.bincount(cell, value, minlength=50))


@pytest.mark.parametrize("as_device", [False, True])
def test_arrays_of_many_types_come_back_as_they_were(as_device):
    """A GPU's come in one copy: as bytes, the widest first."""
    parts = {
        "mask": torch.tensor([True, False, True]),
        "counts": torch.arange(6).view(2, 3).T,
        "nothing": torch.empty(0, 4, dtype=torch.int64),
        "values": torch.tensor([0.5, -1.0], dtype=torch.float32),
        "number": torch.tensor(3, dtype=torch.int32),
        "sums": torch.tensor([torch.nan, 2.0**60], dtype=torch.float64).expand(3, 2),
    }
    with NumericCuda():
        found = to_host({name: part.to("cuda:0") if as_device else part for name, part in parts.items()})
    assert list(found) == list(parts)
    for name, part in parts.items():
        assert found[name].dtype == part.numpy().dtype
        np.testing.assert_array_equal(found[name], part.numpy())


@pytest.mark.parametrize("n_images", [3, 208_000, 1_281_167, 14_197_122, 2**30 - 1])
def test_tie_terms_of_many_images(n_images):
    """Beyond two million images the cube of the zeros' group does not fit int64."""
    indptr = np.full(n_images + 1, 2, np.int8) if n_images < 1e8 else None
    sizes = torch.tensor([2, n_images - 2])
    high, low = (int(part.sum()) for part in ranks._cubes(sizes))
    exact = sum(t**3 - t for t in (2, n_images - 2))
    assert high * 2**30 + low == exact
    if indptr is not None:
        indptr[:2] = (0, 1)
        z = sp.csr_array((np.ones(2, np.float32), np.zeros(2, np.int32), indptr.astype(np.int32)), shape=(n_images, 1))
        assert rank_activations(z).tie_term[0] == pytest.approx(float(exact), rel=2**-52)


@pytest.mark.gpu
@no_cuda
@examples(20)
@given(seed=seeds)
def test_cuda_gives_the_cpus_scores(random_case, seed):
    case = random_case(seed)
    scores = {}
    for device in ("cpu", "cuda"):
        ranked = rank_activations(case.z, device=device)
        sums = sum_by_class(ranked, case.labels, len(case.taxonomy.classes), device=device)
        blocks = [block for _, block in iter_node_scores(sums, case.taxonomy.closure, device=device)]
        scores[device] = {
            name: np.concatenate([getattr(block, name) for block in blocks]) for name in NodeScores.__dataclass_fields__
        } | {name: getattr(ranked, name) for name in ("rank_excess", "tie_term", "n_fire", "top_images")}
    for name, expected in scores["cpu"].items():
        np.testing.assert_array_equal(scores["cuda"][name], expected, err_msg=name)


@pytest.mark.gpu
@no_cuda
def test_cuda_chooses_the_cpus_pairs_and_repeats_its_bits(planted_case):
    on_cpu, on_cuda, again = (run(planted_case, device=device) for device in ("cpu", "cuda", "cuda"))
    for left, right, repeated in zip(on_cpu, on_cuda, again, strict=True):
        for name in ("latent", "node", "f1", "auroc", "z"):
            np.testing.assert_array_equal(getattr(right.nodes, name), getattr(left.nodes, name), err_msg=name)
        for name, values in right.nodes.columns().items():
            np.testing.assert_array_equal(repeated.nodes.columns()[name], values, err_msg=name)
