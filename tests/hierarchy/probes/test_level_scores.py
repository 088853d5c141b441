import itertools
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.probes.level_scores import LevelScores, level_scores
from hsae.hierarchy.probes.linear_probe import linear_probe, stratified_split
from hsae.hierarchy.probes.taxonomy_levels import taxonomy_levels


def planted(make_taxonomy, n_images=20, seed=0):
    """8 classes in 4 groups in 2 kingdoms; the activations show the group, and nothing of the class."""
    edges = [(f"k{k}", "root") for k in range(2)] + [(f"k{g // 2}g{g}", f"k{g // 2}") for g in range(4)]
    edges += [(f"k{c // 4}g{c // 2}c{c}", f"k{c // 4}g{c // 2}") for c in range(8)]
    taxonomy = make_taxonomy(edges, [child for child, _ in edges if "c" in child])
    labels = np.repeat(np.arange(8), n_images)
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((4, 6))[labels // 2] * 4 + rng.standard_normal((len(labels), 6))
    return x.astype(np.float32), labels, taxonomy


def dense_knn_accuracy(x, groups, is_test, k):
    unit = x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    right = 0
    for image in np.flatnonzero(is_test):
        similarity = np.round(unit[~is_test] @ unit[image], 12)
        nearest = np.argsort(-similarity, kind="stable")[:k]
        votes = np.bincount(groups[~is_test][nearest], np.exp(similarity[nearest] / 0.07))
        right += votes.argmax() == groups[image]
    return right / is_test.sum()


def test_coarse_levels_that_are_separable_and_fine_ones_that_are_not(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    scores = level_scores(x, labels, taxonomy)
    assert scores.level.tolist() == [1, 2, 3]
    assert scores.n_groups.tolist() == [2, 4, 8]
    assert (scores.n_train.tolist(), scores.n_test.tolist()) == ([120] * 3, [40] * 3)
    for accuracy in (scores.probe_accuracy, scores.knn_accuracy):
        assert accuracy[:2].min() > 0.9
        assert 0.25 < accuracy[2] < 0.75
    np.testing.assert_allclose(scores.probe_chance, [1 / 2, 1 / 4, 1 / 8])


def test_every_level_equals_a_slow_reference(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy, seed=1)
    scores = level_scores(x, labels, taxonomy, seed=5, k=7)
    is_test = stratified_split(labels, 0.25, 5)
    scaled = (x - x[~is_test].mean(axis=0)) / x[~is_test].std(axis=0)
    for level, nodes in enumerate(taxonomy_levels(taxonomy)):
        groups = nodes[labels]
        # With two classes scikit-learn fits one weight vector, the difference of ours, at half the penalty.
        c = 1 / (scores.probe_l2[level] * (~is_test).sum()) * (2 if level == 0 else 1)
        reference = LogisticRegression(C=c, max_iter=10_000).fit(scaled[~is_test], groups[~is_test])
        assert scores.probe_accuracy[level] == pytest.approx(
            reference.score(scaled[is_test], groups[is_test]), abs=0.03
        )
        assert scores.knn_accuracy[level] == dense_knn_accuracy(x, groups, is_test, 7)


def test_the_last_level_is_the_linear_probe_of_the_classes(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy, seed=2)
    scores = level_scores(x, labels, taxonomy, seed=3)
    probe = linear_probe(x, labels, seed=3)
    assert (scores.probe_accuracy[-1], scores.probe_l2[-1]) == (probe.accuracy, probe.l2)
    assert (scores.probe_chance[-1], scores.n_groups[-1], scores.n_test[-1]) == (probe.chance, 8, probe.n_test)


@examples(15)
@given(seed=st.integers(0, 1 << 30))
def test_random_dags_with_empty_and_single_image_classes(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    n_images = int(rng.integers(1, 30))
    labels = rng.integers(0, len(taxonomy.classes), n_images)
    x = rng.integers(-2, 3, (n_images, 3)).astype(np.float32)
    scores = level_scores(x, labels, taxonomy, k=3)
    levels = taxonomy_levels(taxonomy)
    is_test = stratified_split(np.unique(labels, return_inverse=True)[1], 0.25, 0)
    assert scores.level.tolist() == list(range(1, len(levels) + 1))
    assert scores.n_groups.tolist() == [len(set(nodes[labels].tolist())) for nodes in levels]
    assert (scores.n_test == is_test.sum()).all()
    for level, nodes in enumerate(levels):
        _, first, which = np.unique(nodes, return_index=True, return_inverse=True)
        groups = first[which][labels]  # a group called by its first class, so that ties fall as documented
        is_defined = len(set(groups.tolist())) > 1 and is_test.any()
        for name in ("probe_accuracy", "probe_chance", "probe_l2", "knn_accuracy"):
            assert np.isnan(getattr(scores, name)[level]) != is_defined
        if is_defined:
            assert scores.knn_accuracy[level] == dense_knn_accuracy_with_zeros(x, groups, is_test, 3)
    same = np.flatnonzero(np.diff(scores.n_groups) == 0)
    for name in ("probe_accuracy", "probe_chance", "probe_l2", "knn_accuracy"):
        np.testing.assert_array_equal(getattr(scores, name)[same], getattr(scores, name)[same + 1])


def dense_knn_accuracy_with_zeros(x, groups, is_test, k):
    """As above with one more direction, of no one, for the rows of zeros: their cosine with any other row is 0."""
    zero = ~x.any(axis=1)
    padded = np.concatenate((x, np.diag(zero.astype(np.float32))), axis=1)
    return dense_knn_accuracy(padded, groups, is_test, k)


def test_equal_levels_are_scored_once(make_taxonomy):
    x, labels, _ = planted(make_taxonomy)
    classes = [f"c{c}" for c in range(8)]
    top = [("a0", "root"), ("a1", "root")]
    n_checks = {}
    for depth, path in ((3, "cba"), (6, "czyxba")):
        steps = [(low + str(c), high + str(c)) for low, high in itertools.pairwise(path[:-1]) for c in range(8)]
        edges = top + steps + [(f"b{c}", f"a{c // 4}") for c in range(8)]
        seen = []
        scores = level_scores(x, labels, make_taxonomy(edges, classes), check=lambda seen=seen: seen.append(1))
        assert scores.n_groups.tolist() == [2] + [8] * (depth - 1)
        assert len(set(scores.probe_accuracy[1:].tolist())) == len(set(scores.knn_accuracy[1:].tolist())) == 1
        n_checks[depth] = len(seen)
    assert n_checks[3] == n_checks[6]


def test_a_class_without_images_changes_nothing(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    edges = [(taxonomy.synsets[child].id, taxonomy.synsets[parent].id) for child, parent in taxonomy.hypernym_edges]
    classes = [taxonomy.synsets[node].id for node in taxonomy.classes]
    wider = make_taxonomy([*edges, ("z", "k1"), ("zz", "root")], [*classes, "z", "zz"])
    for name, column in level_scores(x, labels, taxonomy).columns().items():
        np.testing.assert_array_equal(column, level_scores(x, labels, wider).columns()[name])


def test_columns_are_the_fields_and_the_seed_matters(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    scores, again, other = (level_scores(x, labels, taxonomy, seed=seed) for seed in (1, 1, 2))
    assert list(scores.columns()) == [field.name for field in fields(LevelScores)]
    for name, column in scores.columns().items():
        np.testing.assert_array_equal(column, again.columns()[name])
    assert (scores.knn_accuracy != other.knn_accuracy).any()


def test_bad_input_is_refused(make_taxonomy):
    x, labels, taxonomy = planted(make_taxonomy)
    with pytest.raises(UserError, match="one label per image"):
        level_scores(x, labels[1:], taxonomy)
    with pytest.raises(UserError, match="none of the taxonomy's 8 classes"):
        level_scores(x, labels + 1, taxonomy)
    with pytest.raises(UserError, match="at least 1"):
        level_scores(x, labels, taxonomy, k=0)
    x[3, 2] = np.inf
    with pytest.raises(UserError, match="infinite"):
        level_scores(x, labels, taxonomy)
