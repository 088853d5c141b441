"""k-means against a slow reference in loops, and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans as ReferenceKMeans
from tests.examples import examples

from hsae.hierarchy.controls.bases import kmeans
from hsae.hierarchy.controls.bases.inputs import BaselineInputs
from hsae.hierarchy.controls.bases.kmeans import KMeans, first_centroids, lloyd, means

seeds = st.integers(0, 2**32 - 1)


def draw(seed, *, has_ties):
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 40)), int(rng.integers(1, 5))
    points = rng.integers(-2, 3, (n, d)) if has_ties else rng.standard_normal((n, d))
    return rng, points.astype(np.float32)


@examples(60)
@given(seed=seeds, has_ties=st.booleans(), n_rounds=st.integers(1, 6))
def test_lloyd_equals_loops(seed, has_ties, n_rounds):
    rng, points = draw(seed, has_ties=has_ties)
    start = rng.permutation(len(points))[: rng.integers(1, len(points) + 1)]
    centroids = points[start].astype(np.float64)
    expected = None
    for _ in range(n_rounds):
        # Float32 scores decide, as documented: on integers they are exact, so that ties are ties.
        scores = points @ centroids.astype(np.float32).T - ((centroids**2).sum(axis=1) / 2).astype(np.float32)
        nearest = [min(range(len(start)), key=lambda c, i=i: (-scores[i, c], c)) for i in range(len(points))]  # type: ignore[misc]
        if nearest == expected:
            break
        expected = nearest
        for c in set(nearest):
            centroids[c] = points[[i for i, other in enumerate(nearest) if other == c]].astype(np.float64).mean(axis=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "MAX_ROUNDS", n_rounds)
        found = lloyd(torch.from_numpy(points), start)
    if not has_ties:  # means of integers may nearly tie; those of normal numbers do not
        np.testing.assert_array_equal(found, expected)
    used, size, mean = means(torch.from_numpy(points), found)
    for cluster, n, centroid in zip(used, size, mean, strict=True):
        assert n == (found == cluster).sum()
        np.testing.assert_allclose(centroid, points[found == cluster].astype(np.float64).mean(axis=0), atol=1e-12)


@examples(25)
@given(seed=seeds, height=st.integers(1, 9))
def test_blocks_and_threads_change_nothing(seed, height):
    rng, points = draw(seed, has_ties=True)
    start = rng.permutation(len(points))[: rng.integers(1, len(points) + 1)]
    whole = lloyd(torch.from_numpy(points), start)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "_BLOCK_POINTS", height)
        np.testing.assert_array_equal(lloyd(torch.from_numpy(points), start), whole)


def test_clusters_from_the_same_start_are_sklearns():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((12, 20)) * 4
    points = torch.from_numpy((centres[rng.integers(0, 12, 600)] + rng.standard_normal((600, 20))).astype(np.float32))

    def spread(cluster):
        used, _, mean = means(points, cluster)
        return ((points.double().numpy() - mean.numpy()[np.searchsorted(used, cluster)]) ** 2).sum()

    start = first_centroids(points, 12, np.random.default_rng(1))
    assert len(set(start.tolist())) == 12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "MAX_ROUNDS", 300)
        cluster = lloyd(points, start)
    reference = ReferenceKMeans(12, init=points.numpy()[start], n_init=1, tol=0).fit(points.numpy())
    np.testing.assert_array_equal(cluster, reference.labels_)
    assert spread(cluster) == pytest.approx(reference.inertia_, rel=1e-5)


@examples(40)
@given(seed=seeds)
def test_no_point_is_drawn_twice(seed):
    rng, points = draw(seed, has_ties=True)
    n_wanted = int(rng.integers(1, len(points) + 5))
    drawn = first_centroids(torch.from_numpy(points), n_wanted, np.random.default_rng(seed))
    n_different = len(np.unique(points, axis=0))
    assert len(np.unique(points[drawn], axis=0)) == len(drawn) == min(n_wanted, n_different)


def test_many_at_once_are_far_apart_more_often_than_chance():
    rng = np.random.default_rng(0)
    near = rng.standard_normal((900, 3)) * 0.01
    far = rng.standard_normal((100, 3)) * 10
    points = torch.from_numpy(np.concatenate((near, far)).astype(np.float32))
    drawn = first_centroids(points, 50, rng, check=lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kmeans, "_DRAWS", 10)  # five at a time
        together = first_centroids(points, 50, rng)
    for found in (drawn, together):
        assert len(found) == 50
        assert (found >= 900).mean() > 0.9


@pytest.mark.parametrize("d_model", [8, 80])
def test_columns_are_cosines_to_the_means_of_unit_vectors(d_model):
    rng = np.random.default_rng(0)
    activations = rng.standard_normal((50, d_model)).astype(np.float32)
    train = np.arange(0, 50, 2)
    made_from = BaselineInputs(activations, np.zeros(50, np.int64), None, 30, train)
    found = KMeans.columns(made_from, 3)
    assert found.n_columns <= 12, "at most half of the 25 train images"
    centred = activations - activations[train].mean(axis=0, dtype=np.float64)
    points = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    near = points[train]
    if d_model > kmeans.N_DIMENSIONS:
        near = near @ made_from.principal_directions[: kmeans.N_DIMENSIONS].T
    near = torch.from_numpy(near.astype(np.float32))
    start = first_centroids(near, 12, np.random.Generator(np.random.PCG64(3)))
    cluster = lloyd(near, start)
    used, size = np.unique(cluster, return_counts=True)
    centroids = np.array([points[train][cluster == c].mean(axis=0) for c in used])
    expected = points @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    np.testing.assert_allclose(found.values(np.arange(len(used))).numpy().T, expected, atol=1e-5)
    assert found.order.tolist() == sorted(range(len(used)), key=lambda column: (-size[column], column))
    np.testing.assert_array_equal(KMeans.columns(made_from, 3).directions, found.directions)
