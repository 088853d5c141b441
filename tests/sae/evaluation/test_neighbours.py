"""CKNNA against loops over all pairs of rows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.neighbours import cknna, hsic, measure_cknna
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows

CPU = torch.device("cpu")


def slow_hsic(k, q):
    n = len(k)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    trace = sum(k[i, j] * q[j, i] for i, j in pairs)
    sums = sum(k[pair] for pair in pairs) * sum(q[pair] for pair in pairs)
    both = sum(k[i, j] * q[j, m] for i, j in pairs for m in range(n) if m != j)
    return (trace + sums / ((n - 1) * (n - 2)) - 2 * both / (n - 2)) / (n * (n - 3))


def slow_cknna(k, q, n_neighbours):
    n = len(k)

    def near(matrix, i):
        return set(sorted((j for j in range(n) if j != i), key=lambda j: (-matrix[i, j], j))[:n_neighbours])

    def align(a, b):
        left, right = np.zeros((n, n)), np.zeros((n, n))
        for i in range(n):
            for j in near(a, i) & near(b, i):
                left[i, j], right[i, j] = a[i, j], b[i, j]
        return slow_hsic(left, right)

    own = align(k, k), align(q, q)
    return None if min(own) <= 0 else align(k, q) / math.sqrt(own[0] * own[1])


def cosines(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return np.round(unit @ unit.T, 10)


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 12), st.integers(1, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_equals_the_definition_with_ties_and_rows_of_zeros(n, n_neighbours, seed, ties):
    generator = np.random.default_rng(seed)
    rows = [generator.normal(size=(n, 3)), generator.normal(size=(n, 6)) * (generator.random((n, 6)) < 0.4)]
    if ties:
        rows = [np.sign(each) for each in rows]
        rows[1][: n // 2] = rows[1][0]
    k, q = map(cosines, rows)
    assert hsic(k, q) == pytest.approx(slow_hsic(k, q), abs=1e-12)
    expected = slow_cknna(k, q, n_neighbours)
    found = cknna(k, q, n_neighbours)
    if expected is None or found is None:  # both own alignments are 0 but for rounding
        assert expected is found or abs(slow_hsic(k, k) * slow_hsic(q, q)) < 1e-9
    else:
        assert found == pytest.approx(expected, abs=1e-8)


def test_the_same_rows_align_with_1_and_shuffled_rows_do_not():
    generator = np.random.default_rng(0)
    k = cosines(generator.normal(size=(300, 16)))
    assert cknna(k, k) == pytest.approx(1.0)
    order = generator.permutation(300)
    assert abs(cknna(k, k[order][:, order])) < 0.05


def make(n_rows, seed=0):
    """Latents that are the positive and the negative parts of the centred activations."""
    x = torch.randn(n_rows, 8, generator=torch.Generator().manual_seed(seed)) + 100.0
    sae = SparseAutoencoder(SaeConfig(expansion=2), 8)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.cat([torch.eye(8), -torch.eye(8)]))
        sae.pre_bias.copy_(x.mean(dim=0))
    index = torch.arange(n_rows)
    return sae, TrainingRows(x, index, 0 * index), index


def test_latents_that_keep_neighbours_are_told_from_shuffled_ones(monkeypatch):
    monkeypatch.setattr("hsae.sae.evaluation.neighbours.MOST_ROWS", 300)
    sae, rows, everything = make(400)
    aligned, shuffled = measure_cknna(sae, rows, everything, CPU)
    assert aligned > 0.5
    assert abs(shuffled) < 0.05
    assert measure_cknna(sae, rows, everything, CPU) == (aligned, shuffled)


def test_few_rows_and_latents_that_never_fire_have_none():
    sae, rows, everything = make(40)
    assert measure_cknna(sae, rows, everything[:11], CPU) == (None, None)
    assert measure_cknna(sae, rows, everything[:12], CPU) != (None, None)
    with torch.no_grad():
        sae.encoder_bias.fill_(-1e6)
    assert measure_cknna(sae, rows, everything, CPU) == (None, None)
