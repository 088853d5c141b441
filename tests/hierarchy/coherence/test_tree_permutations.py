import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.coherence import tree_permutations as module
from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.coherence.tree_permutations import (
    layer_p,
    mean_weights,
    permutations_within,
    permuted_coherence,
    size_strata,
)
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


@examples(60)
@given(sizes=st.lists(st.integers(0, 6), min_size=3, max_size=120), seed=seeds)
def test_classes_move_within_strata_of_their_size(sizes, seed):
    n_images = np.array(sizes)
    keep = n_images > 0
    strata = size_strata(n_images, keep)
    kept = n_images[keep]
    assert len(strata) == len(kept)
    for size in np.unique(kept):
        assert len(np.unique(strata[kept == size])) == 1
    order = np.argsort(kept, kind="stable")
    assert (np.diff(strata[order]) >= 0).all()
    assert len(np.unique(strata)) <= max(1, min(5, len(kept) // 8))
    moved = permutations_within(strata, seed, n_permutations=5)
    for row in moved:
        np.testing.assert_array_equal(np.sort(row), np.arange(len(kept)))
        np.testing.assert_array_equal(strata[row], strata)


def test_strata_are_quintiles():
    strata = size_strata(np.arange(1, 101), np.ones(100, bool))
    np.testing.assert_array_equal(np.bincount(strata), [20] * 5)
    assert not size_strata(np.full(100, 7), np.ones(100, bool)).any()
    assert not size_strata(np.arange(1, 16), np.ones(15, bool)).any()  # too few classes for two strata


@examples(40)
@given(seed=seeds)
def test_coherence_of_a_permuted_tree_is_that_of_moved_labels(random_case, seed):
    """To move the classes over the tree is to relabel their images."""
    case, rng = random_case(seed), np.random.default_rng(seed)
    n_classes = len(case.taxonomy.classes)
    resnik, ranked = resnik_similarity(case.taxonomy), rank_activations(case.z)
    keep = np.bincount(case.labels, minlength=n_classes) > 0
    classes = np.flatnonzero(keep)
    pairs = top_class_pairs(ranked.top_images, case.labels, resnik)
    permutations = np.stack([np.arange(len(classes)), *(rng.permutation(len(classes)) for _ in range(3))])
    (found,) = permuted_coherence([mean_weights(pairs, keep)], resnik, classes, permutations.astype(np.int32))
    for places, value in zip(permutations, found, strict=True):
        moved = classes[places][np.searchsorted(classes, case.labels)]
        coherence = top_class_pairs(ranked.top_images, moved, resnik).coherence()
        defined = coherence[np.isfinite(coherence)]
        assert value == pytest.approx(defined.mean() if len(defined) else 0, abs=1e-9)


def test_many_classes_are_permuted_pair_by_pair_with_the_same_result(planted_case, monkeypatch):
    resnik, ranked = resnik_similarity(planted_case.taxonomy), rank_activations(planted_case.z)
    keep = np.ones(27, bool)
    of_case = mean_weights(top_class_pairs(ranked.top_images, planted_case.labels, resnik), keep)
    other = mean_weights(top_class_pairs(ranked.top_images[:5], planted_case.labels, resnik), keep)
    weights = [of_case, other, sp.csr_array(other.shape)]
    permutations = permutations_within(np.zeros(27, np.int64), seed=0, n_permutations=40)
    by_rows = permuted_coherence(weights, resnik, np.arange(27), permutations)
    similarity = resnik.bits[resnik.code]
    for of_basis, values in zip(weights, by_rows, strict=True):
        one_by_one = [(of_basis.toarray() * similarity[places][:, places]).sum() for places in permutations]
        np.testing.assert_allclose(values, one_by_one, atol=1e-12)
    monkeypatch.setattr(module, "_BLOCK_ROWS", 4)
    np.testing.assert_allclose(permuted_coherence(weights, resnik, np.arange(27), permutations), by_rows, atol=1e-12)
    monkeypatch.setattr(module, "_DENSE_CLASSES", 0)
    np.testing.assert_allclose(permuted_coherence(weights, resnik, np.arange(27), permutations), by_rows, atol=1e-12)


def test_p_is_the_same_on_any_number_of_threads(planted_case):
    ranked, n_threads = rank_activations(planted_case.z), torch.get_num_threads()
    resnik = resnik_similarity(planted_case.taxonomy)
    sizes, keep = np.bincount(planted_case.labels), np.ones(27, bool)
    weights = [mean_weights(top_class_pairs(ranked.top_images, planted_case.labels, resnik), keep)]
    found = layer_p(weights, resnik, sizes, keep, seed=0)
    assert found == [0.001]  # no permutation reaches planted latents
    try:
        torch.set_num_threads(1)
        assert layer_p(weights, resnik, sizes, keep, seed=0) == found
    finally:
        torch.set_num_threads(n_threads)


def test_a_layer_without_pairs_has_no_p(planted_case):
    resnik, keep = resnik_similarity(planted_case.taxonomy), np.ones(27, bool)
    pairs = top_class_pairs(np.array([[0, 1], [-1, -1]]), planted_case.labels, resnik)  # images of one class
    (p,) = layer_p([mean_weights(pairs, keep)], resnik, np.full(27, 12), keep, seed=0)
    assert np.isnan(p)


def test_the_work_can_be_stopped(planted_case):
    def stop():
        raise InterruptedError

    resnik, keep = resnik_similarity(planted_case.taxonomy), np.ones(27, bool)
    with pytest.raises(InterruptedError):
        layer_p([sp.csr_array((27, 27))], resnik, np.full(27, 12), keep, seed=0, check=stop)
