"""Latents that other seeds find again, against planted dictionaries and a search through all matchings."""

from itertools import permutations

import numpy as np
import pytest

import hsae.hierarchy.study.seed_stability as module
from hsae.hierarchy.study.seed_stability import is_matched_one_to_one, matched_cosines, seed_stability


def _random(rng, n, d):
    return rng.standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize("limit", [100, 10])
def test_permuted_dictionaries_are_stable_whatever_the_lengths_of_their_directions(monkeypatch, limit):
    monkeypatch.setattr(module, "MAX_MATCHED", limit)
    rng = np.random.default_rng(0)
    one = _random(rng, 40, 16)
    seeds = [one, (one * rng.uniform(0.5, 2, (40, 1)))[rng.permutation(40)], one[rng.permutation(40)]]
    np.testing.assert_allclose(seed_stability(seeds), 1.0, atol=1e-6)
    assert is_matched_one_to_one(40) == (limit == 100)


def test_random_dictionaries_are_as_stable_as_chance():
    rng = np.random.default_rng(1)
    first, second = (seed_stability([_random(rng, 200, 64) for _ in range(3)]) for _ in range(2))
    assert first.shape == (3, 200)
    assert first.mean() == pytest.approx(second.mean(), abs=0.02)
    assert first.mean() < 0.4


def test_half_a_dictionary_in_common():
    rng = np.random.default_rng(2)
    one = _random(rng, 60, 64)
    other = np.concatenate((one[:30], _random(rng, 30, 64)))
    found = seed_stability([one, other])
    np.testing.assert_allclose(found[:, :30], 1.0, atol=1e-6)
    assert found[:, 30:].max() < 0.7


def test_the_matching_has_the_greatest_sum_of_cosines():
    rng = np.random.default_rng(3)
    one, other = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in rng.standard_normal((2, 6, 3))
    )
    cosine = one @ other.T
    best = max(permutations(range(6)), key=lambda order: sum(cosine[i, j] for i, j in enumerate(order)))
    mine, theirs = matched_cosines(one, other)
    np.testing.assert_allclose(mine, [cosine[i, j] for i, j in enumerate(best)])
    np.testing.assert_allclose(theirs[list(best)], mine)


def test_large_dictionaries_take_the_greatest_cosine(monkeypatch):
    monkeypatch.setattr(module, "MAX_MATCHED", 3)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 2)
    rng = np.random.default_rng(4)
    one, other = (
        vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in rng.standard_normal((2, 7, 3))
    )
    mine, theirs = matched_cosines(one, other)
    np.testing.assert_allclose(mine, (one @ other.T).max(axis=1))
    np.testing.assert_allclose(theirs, (one @ other.T).max(axis=0))


def test_one_seed_or_other_sizes_are_refused():
    rng = np.random.default_rng(5)
    for decoders in ([_random(rng, 4, 3)], [_random(rng, 4, 3), _random(rng, 5, 3)]):
        with pytest.raises(ValueError, match="two or more seeds"):
            seed_stability(decoders)
    silent = np.zeros((4, 3), np.float32)
    np.testing.assert_array_equal(seed_stability([silent, _random(rng, 4, 3)]), 0.0)
