"""Quantiles of L0 and the histogram of densities against counts by hand."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.firing import DENSITY_EDGES, Firing
from hsae.sae.evaluation.metrics import measure_reconstruction
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows

CPU = torch.device("cpu")


def slow_histogram(rows_per_latent, n_rows):
    found = [0] * len(DENSITY_EDGES)
    for count in rows_per_latent:
        density = count / n_rows
        if density == 0:
            found[0] += 1
            continue
        bins = [i for i in range(len(DENSITY_EDGES) - 1) if DENSITY_EDGES[i] <= density < DENSITY_EDGES[i + 1]]
        found[1 + (bins[0] if bins else 0 if density < DENSITY_EDGES[0] else len(DENSITY_EDGES) - 2)] += 1
    return found


@given(st.integers(1, 10**8).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n), min_size=1))))
def test_every_latent_is_in_one_bin(drawn):
    n_rows, counts = drawn
    firing = Firing(np.zeros(1, np.int64), np.array(counts))
    object.__setattr__(firing, "latents_per_row", np.broadcast_to(np.int64(0), n_rows))
    histogram = firing.density_histogram()
    assert histogram == slow_histogram(counts, n_rows)
    assert sum(histogram) == len(counts)


def test_edges_of_bins_belong_to_the_bin_above():
    firing = Firing(np.zeros(1000, np.int64), np.array([0, 1, 10, 100, 1000, 0]))
    histogram = firing.density_histogram()
    assert (len(histogram), histogram[0]) == (13, 2)
    assert [i for i, count in enumerate(histogram) if count] == [0, 7, 9, 11, 12]  # 1e-3, 1e-2, 1e-1, and 1


def test_rows_and_latents_are_counted_over_all_chunks():
    sae = SparseAutoencoder(SaeConfig(expansion=1), 3)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(3))
    n = 5_000  # more than two chunks
    x = torch.full((n, 3), -1.0)
    x[:, 0] = 1.0
    x[: n // 2, 1] = 1.0
    index = torch.arange(n)
    firing = measure_reconstruction(sae, TrainingRows(x, index, 0 * index), index, CPU).firing
    assert firing.rows_per_latent.tolist() == [n, n // 2, 0]
    assert firing.l0_quantiles() == [1.0, 1.0, 1.5, 2.0, 2.0]
    assert firing.density_histogram() == [1, *[0] * 11, 2]
