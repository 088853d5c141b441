import numpy as np
import pytest

from hsae.hierarchy.config import ProbeConfig
from hsae.hierarchy.probes.class_distances import path_distance_correlation
from hsae.hierarchy.probes.class_information import class_information
from hsae.hierarchy.probes.image_parts import TrainAndScore, split_by_class
from hsae.hierarchy.probes.level_scores import level_scores
from hsae.hierarchy.probes.linear_probe import linear_probe


@pytest.mark.parametrize("logistic", [False, True])
def test_every_probe_gets_its_part_of_the_images_and_the_config(planted_case, logistic):
    x, labels, taxonomy = planted_case.neurons, planted_case.labels, planted_case.taxonomy
    parts = split_by_class(labels, 4)
    config = ProbeConfig(seed=4, n_neighbours=3, n_path_shuffles=5, logistic=logistic)
    found = class_information(x, labels, taxonomy, parts, config)
    assert found.k == 3
    for name, column in level_scores(x, labels, taxonomy, parts, k=3).columns().items():
        np.testing.assert_array_equal(found.levels.columns()[name], column)
    scored = parts.score
    assert found.paths == path_distance_correlation(x[scored], labels[scored], taxonomy, seed=4, n_shuffles=5)
    assert found.logistic == (linear_probe(x, labels, parts=parts, seed=4) if logistic else None)


def test_shuffled_labels_carry_no_information(planted_case):
    rng = np.random.default_rng(0)
    labels = rng.permutation(planted_case.labels)
    found = class_information(
        planted_case.neurons, labels, planted_case.taxonomy, split_by_class(labels, 0), ProbeConfig()
    )
    levels = found.levels
    spread = np.sqrt(0.25 / levels.n_test)
    assert (levels.probe_accuracy < levels.probe_chance + 4 * spread).all()
    assert abs(found.paths.cosine - found.paths.shuffled_cosine_mean) < 4 * found.paths.shuffled_cosine_sd


def test_without_scored_images_everything_is_undefined(planted_case):
    labels = planted_case.labels
    parts = TrainAndScore(np.arange(len(labels)), np.array([], np.int64))
    found = class_information(planted_case.neurons, labels, planted_case.taxonomy, parts, ProbeConfig(logistic=True))
    assert np.isnan(found.levels.probe_accuracy).all()
    assert np.isnan(found.levels.nn_accuracy).all()
    assert np.isnan(found.paths.cosine)
    assert found.logistic is not None
    assert np.isnan(found.logistic.accuracy)
