"""The ladder of baselines on images that are held out: what makes them, what they reach, and which are scored."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from tests.hierarchy.scoring import score_all

from hsae.errors import UserError
from hsae.hierarchy.baselines import wanted_baselines
from hsae.hierarchy.config import ScoringConfig
from hsae.hierarchy.scored_activations import ImageParts
from hsae.vocabulary.bases import BASELINES, CEILINGS

EVERY = (*BASELINES, *CEILINGS)


def thirds(case, seed=0):
    """The same number of train, select and score images of every class."""
    order = np.random.default_rng(seed).permutation(len(case.labels))
    order = order[np.argsort(case.labels[order], kind="stable")]
    return ImageParts(*(np.sort(order[part::3]) for part in range(3)))


def run(case, parts=None, **options):
    options = {"controls": EVERY, "n_random": 2, "n_shuffles": 0, "untrained": case.z[:, ::-1], **options}
    found = score_all(case.z, case.labels, case.taxonomy, case.neurons, parts=parts, **options)
    return {(result.basis, result.seed): result for result in found}


def separable(case):
    """The planted nodes, each with a direction of its own in the activations."""
    is_under = case.is_under().astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((len(is_under), 64)).astype(np.float32)
    directions = np.linalg.qr(np.random.default_rng(2).standard_normal((64, is_under.shape[1])))[0].T
    return dataclasses.replace(case, neurons=(6 * is_under @ directions + noise + 20).astype(np.float32))


def test_the_ceiling_finds_every_planted_node_on_images_that_it_has_not_seen(planted_case):
    case = separable(planted_case)
    ceiling = run(case, thirds(case))["class_mean", 0]
    is_inside = ~np.isnan(ceiling.nodes.auroc) & ceiling.nodes.is_node_best
    assert is_inside.sum() == 27 + 9 + 3
    assert ceiling.nodes.auroc_dense[is_inside].min() > 0.99
    # The planted latents fire as often as their nodes have images, and so do the columns of the ceiling.
    assert ceiling.layer.best_f1_mean > 0.85


def test_the_saes_densities_hold_on_the_images_that_are_scored(planted_case):
    case = separable(planted_case)
    results = run(case, thirds(case))
    sae = results["sae", 0].layer
    for basis in ("exemplar", "random", "class_mean"):
        assert results[basis, 0].layer.l0_mean == pytest.approx(sae.l0_mean, rel=0.1), basis
    for basis in EVERY:
        assert results[basis, 0].layer.n_images == len(case.labels) // 3


def test_what_is_scored_makes_no_baseline(planted_case):
    """Other images of the same classes, and nothing about the train images, change what the ladder fires on."""
    parts = thirds(planted_case)
    before = run(planted_case, parts)
    moved = planted_case.neurons.copy()
    moved[parts.score] = moved[np.random.default_rng(0).permutation(parts.score)]
    after = run(dataclasses.replace(planted_case, neurons=moved), parts)
    for basis in ("exemplar", "kmeans", "pca", "random", "neuron", "class_mean"):
        # The same activations on the scored images in another order: the same columns, thresholds and densities.
        density = [np.asarray(results[basis, 0].latents.density) for results in (before, after)]
        np.testing.assert_allclose(*density, atol=0.02, err_msg=basis)  # type: ignore[call-overload]
        assert before[basis, 0].layer.best_f1_mean > after[basis, 0].layer.best_f1_mean + 0.05, "labels no longer fit"


def test_with_shuffled_labels_no_baseline_knows_more_than_another(planted_case):
    parts = thirds(planted_case)
    labels = planted_case.labels.copy()
    for seed, part in enumerate((parts.train, parts.select, parts.score)):
        labels[part] = np.random.default_rng(seed).permutation(labels[part])
    results = run(dataclasses.replace(planted_case, labels=labels), parts)
    reached = {basis: results[basis, 0].layer.best_f1_mean for basis in ("sae", *EVERY)}
    assert max(reached.values()) < 0.2, reached
    assert max(reached.values()) - min(reached.values()) < 0.08, reached


def test_which_are_scored():
    wanted = wanted_baselines(ScoringConfig(), has_several_tokens=False)
    assert wanted == [
        ("neuron", 0), ("pca", 0), *(("random", draw) for draw in range(5)), ("untrained", 0), ("exemplar", 0),
        ("kmeans", 0),
    ]  # fmt: skip
    assert wanted_baselines(ScoringConfig(controls=EVERY, n_random=1), has_several_tokens=True) == [
        ("neuron", 0), ("untrained", 0),
    ]  # fmt: skip
    assert wanted_baselines(ScoringConfig(controls=()), has_several_tokens=False) == []


def test_no_train_images_are_refused_and_one_class_has_no_ceiling(planted_case):
    parts = thirds(planted_case)
    with pytest.raises(UserError, match="leaves none to make baselines from"):
        run(planted_case, dataclasses.replace(parts, train=parts.train[:0]))
    one = dataclasses.replace(planted_case, labels=np.zeros_like(planted_case.labels))
    assert ("class_mean", 0) not in run(one, parts)


def test_images_of_several_labels(random_case):
    case = random_case(3)
    n_images, n_classes = len(case.labels), len(case.taxonomy.classes)
    has = np.random.default_rng(3).random((n_images, n_classes)) < 0.3
    has[np.arange(n_images), case.labels] = True
    results = run(dataclasses.replace(case, labels=sp.csr_array(has)), thirds(case))
    assert {basis for basis, _ in results} >= {"sae", *BASELINES}
