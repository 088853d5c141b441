import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.probes import nearest_neighbours as module
from hsae.hierarchy.probes.nearest_neighbours import Neighbours, nearest_neighbours, vote


def find(queries, references, k):
    return nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(references), k, check=lambda: None)


def cosines(queries, references):
    """Slow and obvious, rounded as documented."""
    similarity = np.zeros((len(queries), len(references)))
    for i, query in enumerate(queries.astype(np.float64)):
        for j, reference in enumerate(references.astype(np.float64)):
            length = np.linalg.norm(query) * np.linalg.norm(reference)
            similarity[i, j] = query @ reference / length if length else 0.0
    return np.round(similarity, 12)


@examples(60)
@given(seed=st.integers(0, 1 << 30))
def test_neighbours_equal_a_full_sort(seed):
    rng = np.random.default_rng(seed)
    n_queries, n_references, n_features = rng.integers(1, 12), rng.integers(1, 30), rng.integers(1, 4)
    # Small integers: many equal directions, and now and then a row of zeros.
    queries, references = (rng.integers(-2, 3, (n, n_features)).astype(np.float32) for n in (n_queries, n_references))
    k = int(rng.integers(1, 35))
    found = find(queries, references, k)
    similarity = cosines(queries, references)
    expected = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(similarity, expected, axis=1), atol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    queries, references = (rng.standard_normal((n, 5)).astype(np.float32) for n in (23, 40))
    references[7] = references[31]
    whole = find(queries, references, 6)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 100)
    blocks = find(queries, references, 6)
    np.testing.assert_array_equal(whole.rows, blocks.rows)
    np.testing.assert_array_equal(whole.similarity, blocks.similarity)


@examples(60)
@given(seed=st.integers(0, 1 << 30))
def test_the_vote_equals_a_table_of_votes(seed):
    rng = np.random.default_rng(seed)
    n_queries, n_references, n_groups = rng.integers(1, 10), rng.integers(1, 20), rng.integers(1, 6)
    k = int(rng.integers(1, n_references + 1))
    rows = np.stack([rng.permutation(n_references)[:k] for _ in range(n_queries)])
    neighbours = Neighbours(rows, rng.integers(-2, 3, rows.shape) / 2)
    groups = rng.integers(0, n_groups, n_references)
    votes = np.zeros((n_queries, n_groups))
    for query in range(n_queries):
        for row, similarity in zip(rows[query], neighbours.similarity[query], strict=True):
            votes[query, groups[row]] += np.exp(similarity / 0.07)
    np.testing.assert_array_equal(vote(neighbours, groups), votes.argmax(axis=1))


def test_the_vote_equals_sklearns():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 5, 300)
    centres = rng.standard_normal((5, 8))
    references = (centres[groups] + rng.standard_normal((300, 8))).astype(np.float32)
    queries = (centres[rng.integers(0, 5, 100)] + rng.standard_normal((100, 8))).astype(np.float32)
    reference = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = reference.fit(references.astype(np.float64), groups).predict(queries.astype(np.float64))
    np.testing.assert_array_equal(vote(find(queries, references, 20), groups), expected)


def test_a_common_offset_hides_no_neighbour():
    """Class tokens of an early layer: all cosines within 1e-8 of 1."""
    rng = np.random.default_rng(2)
    offset = np.zeros(4, np.float32)
    offset[0] = 4096
    queries, references = (offset + rng.standard_normal((n, 4)).astype(np.float32) for n in (20, 50))
    np.testing.assert_array_equal(
        find(queries, references, 5).rows, np.argsort(-cosines(queries, references), axis=1, kind="stable")[:, :5]
    )


def test_no_neighbour_is_refused_and_the_search_can_be_stopped():
    x = np.ones((3, 2), np.float32)
    with pytest.raises(UserError, match="at least 1"):
        find(x, x, 0)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nearest_neighbours(torch.from_numpy(x), torch.from_numpy(x), 1, check=stop)
