"""The probes of a layer's activations on an emulated GPU."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.devices.numeric.numeric_cuda import NumericCuda
from tests.devices.sync_counter import SyncCounter

from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.kernels.back_off import forget_parts
from hsae.hierarchy.probes import nearest_neighbours as neighbours_module
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.probes.image_parts import split_by_class
from hsae.hierarchy.probes.nearest_neighbours import nearest_neighbours


@pytest.fixture(autouse=True)
def whole_blocks():
    forget_parts()
    yield
    forget_parts()


def _rows(n, seed, *, tied=False):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, 2, (n, 3)) if tied else rng.standard_normal((n, 6))
    return torch.from_numpy(rows.astype(np.float64))


def test_the_default_probes_run_there(planted_case):
    """Without the logistic one: torch's backward pass asks the driver for a stream."""
    case = planted_case
    parts = split_by_class(case.labels, 0)
    config = ProbeConfig(n_path_shuffles=3)

    def probed(device):
        return class_information(case.neurons, case.labels, case.taxonomy, parts, config, device=torch.device(device))

    expected = probed("cpu")
    with NumericCuda():
        found = probed("cuda:0")
    for field in dataclasses.fields(expected.levels):
        one, other = (np.asarray(getattr(of.levels, field.name)) for of in (found, expected))
        np.testing.assert_array_equal(one, other, err_msg=field.name)


@pytest.mark.parametrize("tied", [False, True])
def test_neighbours_are_the_cpus_with_one_wait_per_block(monkeypatch, tied):
    """A tie at the last neighbour makes the host wait once more."""
    queries, references = _rows(40, 0, tied=tied), _rows(60, 1, tied=tied)
    expected = nearest_neighbours(queries, references, 5, check=lambda: None)
    monkeypatch.setattr(neighbours_module, "_BLOCK_VALUES", 600)
    n_blocks = 4
    with NumericCuda():
        on_device = queries.to("cuda:0"), references.to("cuda:0")
        with SyncCounter("cuda") as syncs:
            found = nearest_neighbours(*on_device, 5, check=lambda: None)
    assert syncs.total <= (2 if tied else 1) * n_blocks + tied * n_blocks, syncs
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.similarity, expected.similarity)


def test_neighbours_with_little_memory(monkeypatch):
    queries, references = _rows(200, 0), _rows(300, 1)
    expected = nearest_neighbours(queries, references, 5, check=lambda: None)
    with NumericCuda(memory=300_000):  # the similarities of all alone take 480,000 bytes
        found = nearest_neighbours(queries.to("cuda:0"), references.to("cuda:0"), 5, check=lambda: None)
    np.testing.assert_array_equal(found.rows, expected.rows)
