from dataclasses import astuple

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import rankdata
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.controls.shuffles import shuffle_taxonomy
from hsae.hierarchy.probes.class_distances import path_distance_correlation, path_distances


def reference(x, labels, taxonomy):
    """Pair by pair."""
    graph = nx.Graph(taxonomy.hypernym_edges.tolist())
    graph.add_node(taxonomy.root)
    present = sorted(set(labels.tolist()))
    centroids = np.array([x[labels == label].astype(np.float64).mean(axis=0) for label in present])
    centroids = centroids - centroids.mean(axis=0)
    centroids[np.abs(centroids).max(axis=1) < 1e-10] = 0
    paths, cosines = [], []
    for i, left in enumerate(present):
        for j, right in enumerate(present[:i]):
            paths.append(nx.shortest_path_length(graph, taxonomy.classes[left], taxonomy.classes[right]))
            has_directions = centroids[i].any() and centroids[j].any()
            cosines.append(cosine(centroids[i], centroids[j]) if has_directions else 1.0)
    return spearman(paths, cosines)


def spearman(a, b):
    a, b = (rankdata(np.round(values, 9)) for values in (a, b))
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return np.corrcoef(a, b)[0, 1]


@examples(40)
@given(seed=st.integers(0, 1 << 30))
def test_random_dags_with_empty_and_single_image_classes(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    n_images = int(rng.integers(1, 25))
    labels = rng.integers(0, len(taxonomy.classes), n_images)
    x = rng.integers(-2, 3, (n_images, 2)).astype(np.float32)
    result = path_distance_correlation(x, labels, taxonomy, n_shuffles=3, seed=seed)
    np.testing.assert_allclose(result.cosine, reference(x, labels, taxonomy), atol=1e-12)
    assert result.n_classes == len(set(labels.tolist()))
    n_classes = len(taxonomy.classes)
    shuffled = np.array([reference(x, shuffle_taxonomy(labels, n_classes, seed + i), taxonomy) for i in range(3)])
    defined = shuffled[~np.isnan(shuffled)]
    expected = (defined.mean(), defined.max()) if len(defined) else (np.nan, np.nan)
    np.testing.assert_allclose((result.shuffled_cosine_mean, result.shuffled_cosine_max), expected, atol=1e-12)
    spread = defined.std(ddof=1) if len(defined) > 1 else np.nan
    np.testing.assert_allclose(result.shuffled_cosine_sd, spread, atol=1e-12)


@examples(40)
@given(seed=st.integers(0, 1 << 30))
def test_path_distances_equal_networkx(random_taxonomy, seed):
    taxonomy = random_taxonomy(np.random.default_rng(seed))
    graph = nx.Graph(taxonomy.hypernym_edges.tolist())
    graph.add_node(taxonomy.root)
    nodes = taxonomy.classes.tolist()
    expected = [[nx.shortest_path_length(graph, a, b) for b in nodes] for a in nodes]
    np.testing.assert_array_equal(path_distances(taxonomy), expected)


def test_activations_that_follow_the_tree_beat_the_shuffled_trees(planted_case):
    result = path_distance_correlation(planted_case.neurons, planted_case.labels, planted_case.taxonomy, n_shuffles=10)
    assert result.cosine > 0.5 > result.shuffled_cosine_max > result.shuffled_cosine_mean > -0.2
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(planted_case.neurons.shape).astype(np.float32)
    of_noise = path_distance_correlation(noise, planted_case.labels, planted_case.taxonomy, n_shuffles=0)
    assert abs(of_noise.cosine) < 0.2


def test_it_is_deterministic_and_without_shuffles_has_no_control(planted_case):
    results = [
        path_distance_correlation(
            planted_case.neurons, planted_case.labels, planted_case.taxonomy, seed=seed, n_shuffles=10
        )
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1] != results[2]
    alone = path_distance_correlation(planted_case.neurons, planted_case.labels, planted_case.taxonomy, n_shuffles=0)
    assert alone.cosine == results[0].cosine
    assert np.isnan(alone.shuffled_cosine_mean)
    assert np.isnan(alone.shuffled_cosine_max)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 0, 1]])
def test_fewer_than_three_classes_are_undefined(make_taxonomy, labels):
    taxonomy = make_taxonomy([("a", "root"), ("b", "root"), ("c", "a")], ["a", "b", "c"])
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    assert np.isnan(astuple(path_distance_correlation(x, np.array(labels), taxonomy, n_shuffles=3))[1:]).all()


def test_constant_distances_are_undefined(make_taxonomy):
    flat = make_taxonomy([("a", "root"), ("b", "root"), ("c", "root")], ["a", "b", "c"])
    x = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    assert np.isnan(path_distance_correlation(x, np.arange(6) % 3, flat, n_shuffles=3).cosine)
    deep = make_taxonomy([("a", "root"), ("b", "root"), ("c", "a")], ["a", "b", "c"])
    # Images that are all the same, by a number whose mean is not exact, and centroids all as far from one another.
    for same in (np.full((6, 3), 0.1), np.eye(3)[np.arange(6) % 3]):
        assert np.isnan(path_distance_correlation(same.astype(np.float32), np.arange(6) % 3, deep, n_shuffles=3).cosine)


def test_bad_input_is_refused(planted_case):
    x, labels = planted_case.neurons.copy(), planted_case.labels
    with pytest.raises(UserError, match="one label per image"):
        path_distance_correlation(x, labels[1:], planted_case.taxonomy, n_shuffles=3)
    x[0, 0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        path_distance_correlation(x, labels, planted_case.taxonomy, n_shuffles=3)
