"""Under shuffled labels hardly any node passes its exact test, whatever the classes and their sizes."""

import numpy as np
import pytest
import scipy.sparse as sp
from tests.hierarchy.nulls.real_labels import demo_labels, labels_listed
from tests.hierarchy.scoring import score_all

N_LATENTS = 200
N_SHUFFLES = 5


def shares(labels, taxonomy):
    """Share of nodes with q < 0.01 of sparse codes that know the labels, and under each shuffle."""
    rng = np.random.default_rng(0)
    under = taxonomy.closure.toarray()[labels] > 0
    fires = (rng.random((len(labels), N_LATENTS)) < 0.6) & under[:, rng.integers(0, under.shape[1], N_LATENTS)]
    fires |= rng.random(fires.shape) < rng.uniform(0.001, 0.1, N_LATENTS)
    z = sp.csr_array((fires * rng.exponential(1.0, fires.shape)).astype(np.float32))
    neurons = rng.standard_normal((len(labels), 3)).astype(np.float32)
    sae, *shuffled = score_all(z, labels, taxonomy, neurons, controls=(), n_shuffles=N_SHUFFLES)
    null = [result.layer.q_node_share for result in shuffled if result.basis == "shuffled_labels"]
    assert len(null) == N_SHUFFLES
    return sae.layer.q_node_share, null


def check(labels, taxonomy):
    found, null = shares(labels, taxonomy)
    assert found > 0.1
    assert max(null) <= 0.01


def test_planted_latents(planted_case):
    check(planted_case.labels, planted_case.taxonomy)


def test_classes_of_very_unequal_sizes(planted_case):
    sizes = np.unique(np.geomspace(1, 600, 27).round().astype(int), return_counts=False)
    sizes = np.concatenate((np.ones(27 - len(sizes), int), sizes))
    check(np.repeat(np.random.default_rng(1).permutation(27), sizes), planted_case.taxonomy)


def test_the_demos_images():
    check(*demo_labels())


def test_more_emoji(shared_data):
    path = shared_data / "emoji" / "listing.csv"
    if not path.is_file():
        pytest.skip(f"needs {path}, which is absent")
    check(*labels_listed(path, "wnid"))
