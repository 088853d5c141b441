"""The resampled headline numbers of an analysis: which bases have them, and what they share."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from tests.hierarchy.scoring import score_all

from hsae.hierarchy import resampled_basis
from hsae.hierarchy.config import MIN_PURE_CLASSES
from hsae.hierarchy.scored_activations import ImageParts

HEADLINE = "f1_adjusted_inner_mean"


@pytest.fixture(scope="module")
def results(planted_case):
    return _score(planted_case)


def _score(case, **changes):
    settings = {"n_replicates": 12, "n_tree_shuffles": 5, "n_shuffles": 2} | changes
    return score_all(case.z, case.labels, case.taxonomy, case.neurons, **settings)


def test_every_basis_has_replicates_and_the_sae_has_shuffled_taxonomies(results):
    for result in results:
        assert {len(quantity.replicates) for quantity in result.resampled.replicates.values()} == {12}
        assert bool(result.resampled.trees) == (result.basis == "sae")
        value = result.resampled.replicates[HEADLINE].value
        assert np.isfinite(value)
    trees = results[0].resampled.trees
    assert {len(found.shuffled) for found in trees.values()} == {5}
    assert trees["lch_height_mean"].value == pytest.approx(results[0].layer.lch_height_mean)
    assert trees["coverage_mean"].value == pytest.approx(results[0].layer.coverage_mean)


def test_the_first_shuffled_taxonomies_are_those_of_the_control(results):
    controls = [result for result in results if result.basis == "shuffled_taxonomy"]
    for metric in (HEADLINE, "coherence_excess", "coherence_excess_weighted", "f1_adjusted_mean", "lch_excess_mean"):
        expected = [result.resampled.replicates[metric].value for result in controls]
        np.testing.assert_allclose(results[0].resampled.trees[metric].shuffled[:2], expected, atol=1e-12)


def test_replicates_are_paired_between_bases(planted_case, monkeypatch):
    """Purity does not depend on the tree: the same images are deleted, wherever their classes are."""
    monkeypatch.setattr(resampled_basis, "MIN_PURE_CLASSES", 27)  # all that there are
    results = _score(planted_case, controls=(), n_tree_shuffles=0)
    by_basis = {(result.basis, result.seed): result.resampled.replicates["purity_mean"] for result in results}
    for seed in (0, 1):
        np.testing.assert_array_equal(by_basis["sae", 0].replicates, by_basis["shuffled_taxonomy", seed].replicates)


def test_purity_of_few_classes_has_no_interval_in_any_basis(results):
    """27 classes: every other number keeps its interval."""
    for result in results:
        for metric, quantity in result.resampled.replicates.items():
            assert np.isfinite(quantity.value), metric
            assert np.isnan(quantity.replicates).all() == (metric == "purity_mean"), f"{result.basis}: {metric}"


@pytest.mark.parametrize(("n_pure", "has_interval"), [(MIN_PURE_CLASSES - 1, False), (MIN_PURE_CLASSES, True)])
def test_purity_has_an_interval_where_enough_classes_carry_it(make_taxonomy, n_pure, has_interval):
    """A class carries it if some latent has two of its images among its strongest; that it has two says nothing."""
    n_classes = MIN_PURE_CLASSES + 20
    names = [f"c{number}" for number in range(n_classes)]
    edges = [(name, f"g{number % 7}") for number, name in enumerate(names)]
    taxonomy = make_taxonomy([*edges, *((f"g{number}", "root") for number in range(7))], names)
    labels = np.repeat(np.arange(n_classes), 2)
    dense = np.zeros((len(labels), 24), np.float32)
    for number in range(n_classes):  # five classes a latent; of those that do not carry purity it has one image
        dense[2 * number : 2 * number + 1 + (number < n_pure), number // 5] = 1 + number
    found = score_all(
        sp.csr_array(dense), labels, taxonomy, np.zeros((len(labels), 2), np.float32),
        controls=(), n_shuffles=0, n_tree_shuffles=0, n_replicates=3,
    )[0].resampled.replicates  # fmt: skip
    assert found["purity_mean"].value > 0
    assert np.isfinite(found["purity_mean"].replicates).all() == has_interval
    assert np.isfinite(found["coherence_excess"].replicates).all()


def test_the_same_bits_whatever_the_number_of_threads(planted_case, results):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = _score(planted_case)
    finally:
        torch.set_num_threads(n_threads)
    for one, other in zip(results, again, strict=True):
        for metric, quantity in one.resampled.replicates.items():
            np.testing.assert_array_equal(quantity.replicates, other.resampled.replicates[metric].replicates)
        for metric, trees in one.resampled.trees.items():
            np.testing.assert_array_equal(trees.shuffled, other.resampled.trees[metric].shuffled)


def test_numbers_come_from_the_score_images(planted_case):
    case = planted_case
    place = np.arange(len(case.labels)) % 4
    parts = ImageParts(*(np.flatnonzero(place == part) for part in (0, 1, 2)))
    found = _score(case, parts=parts, n_shuffles=0)[0]
    best = found.nodes.is_node_best
    assert dataclasses.is_dataclass(found)
    inner = case.taxonomy.leaf_counts[found.nodes.node[best]]
    assert found.resampled.replicates[HEADLINE].n == ((inner >= 3) & (inner < 27)).sum()
    assert found.nodes.n_images.max() <= len(parts.score)
    assert found.resampled.replicates[HEADLINE].value == found.resampled.trees[HEADLINE].value


def test_nothing_asked_for_is_nothing_done(planted_case):
    found = _score(planted_case, n_replicates=0, n_tree_shuffles=0, n_shuffles=0)[0].resampled
    assert found.trees == {}
    assert len(found.replicates[HEADLINE].replicates) == 0
    assert np.isfinite(found.replicates[HEADLINE].value)
