import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.probes.image_parts import TrainAndScore, split_by_class
from hsae.hierarchy.probes.level_scores import LevelScores, level_scores, neighbours_that_vote
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels

SCORES = ("probe_accuracy", "probe_chance", "probe_l2", "knn_accuracy", "nn_accuracy")


def scores_of(x, labels, taxonomy, seed=0, k=20, **others):
    """By the default split."""
    return level_scores(x, labels, taxonomy, split_by_class(labels, seed), k=k, **others)


def planted(make_taxonomy, n_images=20, seed=0):
    """8 classes in 4 groups in 2 kingdoms; the activations show the group, and nothing of the class."""
    edges = [(f"k{k}", "root") for k in range(2)] + [(f"k{g // 2}g{g}", f"k{g // 2}") for g in range(4)]
    edges += [(f"k{c // 4}g{c // 2}c{c}", f"k{c // 4}g{c // 2}") for c in range(8)]
    taxonomy = make_taxonomy(edges, [child for child, _ in edges if "c" in child])
    labels = np.repeat(np.arange(8), n_images)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 6))[labels // 2] * 4 + rng.standard_normal((len(labels), 6))
    return x.astype(np.float32), labels, taxonomy


def dense_knn_accuracy(x, groups, parts, k):
    x = x.astype(np.float64)
    x = x - x[parts.train].mean(axis=0)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)  # no direction: similarity 0 to every image
    right = 0
    for image in parts.score:
        similarity = np.round(unit[parts.train] @ unit[image], 12)
        nearest = np.argsort(-similarity, kind="stable")[:k]
        votes = np.bincount(groups[parts.train][nearest], np.exp(similarity[nearest] / 0.07))
        right += votes.argmax() == groups[image]
    return right / len(parts.score)


def ridge_accuracy(x, groups, parts, penalty):
    x = x.astype(np.float64)
    train = x[parts.train]
    alpha = penalty * ((train - train.mean(axis=0)) ** 2).sum() / x.shape[1]
    reference = RidgeClassifier(alpha=alpha, solver="svd").fit(train, groups[parts.train])
    return reference.score(x[parts.score], groups[parts.score])


def test_coarse_levels_that_are_separable_and_fine_ones_that_are_not(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    scores = scores_of(x, labels, taxonomy)
    assert scores.level.tolist() == [1, 2, 3]
    assert scores.n_groups.tolist() == [2, 4, 8]
    assert (scores.n_train.tolist(), scores.n_test.tolist()) == ([120] * 3, [40] * 3)
    for accuracy in (scores.probe_accuracy, scores.knn_accuracy, scores.nn_accuracy):
        assert accuracy[:2].min() > 0.9
        assert 0.25 < accuracy[2] < 0.75
    np.testing.assert_allclose(scores.probe_chance, [1 / 2, 1 / 4, 1 / 8])


def test_every_level_equals_a_slow_reference(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy, seed=1)
    scores = scores_of(x, labels, taxonomy, seed=5, k=7)
    parts = split_by_class(labels, 5)
    for level, nodes in enumerate(taxonomy_levels(taxonomy)):
        groups = nodes[labels]
        assert scores.probe_accuracy[level] == ridge_accuracy(x, groups, parts, scores.probe_l2[level])
        assert scores.knn_accuracy[level] == dense_knn_accuracy(x, groups, parts, 7)
        assert scores.nn_accuracy[level] == dense_knn_accuracy(x, groups, parts, 1)


def test_images_of_neither_part_change_nothing(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy, seed=2)
    order = np.random.default_rng(0).permutation(len(x))
    parts = TrainAndScore(np.sort(order[:90]), np.sort(order[90:130]))
    changed = x.copy()
    changed[order[130:]] = 1e3
    for name, column in level_scores(x, labels, taxonomy, parts, k=5).columns().items():
        np.testing.assert_array_equal(column, level_scores(changed, labels, taxonomy, parts, k=5).columns()[name])


def test_groups_without_training_images_are_never_named(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy, seed=3)
    parts = TrainAndScore(np.flatnonzero((labels < 6) & (np.arange(len(x)) % 2 == 0)), np.flatnonzero(labels >= 6))
    scores = level_scores(x, labels, taxonomy, parts, k=5)
    assert scores.n_groups.tolist() == [2, 4, 8]
    assert scores.probe_accuracy[1:].tolist() == scores.knn_accuracy[1:].tolist() == [0, 0]
    assert scores.probe_accuracy[0] == ridge_accuracy(x, labels // 4, parts, scores.probe_l2[0])


def test_no_more_neighbours_vote_than_the_smallest_class_has_training_images():
    labels, train = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 2, 3, 5, 6])
    assert neighbours_that_vote(labels, train, 20) == 1
    assert neighbours_that_vote(labels, train[:3], 20) == 3  # classes without training images do not count
    assert neighbours_that_vote(labels, train[:3], 2) == 2


@examples(15)
@given(seed=st.integers(0, 1 << 30))
def test_random_dags_with_empty_and_single_image_classes(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    n_images = int(rng.integers(1, 30))
    labels = rng.integers(0, len(taxonomy.classes), n_images)
    x = rng.integers(-2, 3, (n_images, 3)).astype(np.float32)
    scores = scores_of(x, labels, taxonomy, k=3)
    levels = taxonomy_levels(taxonomy)
    parts = split_by_class(labels, 0)
    assert scores.level.tolist() == list(range(1, len(levels) + 1))
    assert scores.n_groups.tolist() == [len(set(nodes[labels].tolist())) for nodes in levels]
    assert (scores.n_test == len(parts.score)).all()
    for level, nodes in enumerate(levels):
        _, first, which = np.unique(nodes, return_index=True, return_inverse=True)
        groups = first[which][labels]  # a group called by its first class, so that ties fall as documented
        is_defined = len(set(groups.tolist())) > 1 and len(parts.score) > 0
        for name in SCORES:
            assert np.isnan(getattr(scores, name)[level]) != is_defined
        if is_defined:
            assert scores.knn_accuracy[level] == dense_knn_accuracy(x, groups, parts, 3)
            assert scores.nn_accuracy[level] == dense_knn_accuracy(x, groups, parts, 1)
    same = np.flatnonzero(np.diff(scores.n_groups) == 0)
    for name in SCORES:
        np.testing.assert_array_equal(getattr(scores, name)[same], getattr(scores, name)[same + 1])


def test_equal_levels_are_scored_once(make_taxonomy):
    x, labels, _ = planted(make_taxonomy)
    classes = [f"c{c}" for c in range(8)]
    top = [("a0", "root"), ("a1", "root")]
    n_checks = {}
    for depth, path in ((3, "cba"), (6, "czyxba")):
        steps = [(low + str(c), high + str(c)) for low, high in itertools.pairwise(path[:-1]) for c in range(8)]
        edges = top + steps + [(f"b{c}", f"a{c // 4}") for c in range(8)]
        seen = []
        scores = scores_of(x, labels, make_taxonomy(edges, classes), check=lambda seen=seen: seen.append(1))
        assert scores.n_groups.tolist() == [2] + [8] * (depth - 1)
        assert len(set(scores.probe_accuracy[1:].tolist())) == len(set(scores.knn_accuracy[1:].tolist())) == 1
        n_checks[depth] = len(seen)
    assert n_checks[3] == n_checks[6]


def test_a_class_without_images_changes_nothing(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    edges = [(taxonomy.synsets[child].id, taxonomy.synsets[parent].id) for child, parent in taxonomy.hypernym_edges]
    classes = [taxonomy.synsets[node].id for node in taxonomy.classes]
    wider = make_taxonomy([*edges, ("z", "k1"), ("zz", "root")], [*classes, "z", "zz"])
    for name, column in scores_of(x, labels, taxonomy).columns().items():
        np.testing.assert_array_equal(column, scores_of(x, labels, wider).columns()[name])


def test_columns_are_the_fields_and_the_seed_matters(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    scores, again, other = (scores_of(x, labels, taxonomy, seed=seed) for seed in (1, 1, 2))
    assert list(scores.columns()) == [field.name for field in fields(LevelScores)]
    for name, column in scores.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])
    assert (scores.knn_accuracy != other.knn_accuracy).any()


def test_bad_input_is_refused(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    parts = split_by_class(labels, 0)
    with pytest.raises(UserError, match="one label per image"):
        level_scores(x, labels[1:], taxonomy, parts, k=3)
    with pytest.raises(UserError, match="none of the taxonomy's 8 classes"):
        level_scores(x, labels + 1, taxonomy, parts, k=3)
    with pytest.raises(UserError, match="at least 1"):
        scores_of(x, labels, taxonomy, k=0)
    x[3, 2] = np.inf
    with pytest.raises(UserError, match="infinite"):
        scores_of(x, labels, taxonomy)
