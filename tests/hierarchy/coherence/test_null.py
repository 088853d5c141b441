"""Closed forms and Monte Carlo beside all permutations of the classes."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.coherence.slow_coherence import pair_counts, slow_coherence, slow_resnik

from hsae.hierarchy.coherence.class_pairs import top_class_pairs
from hsae.hierarchy.coherence.latent_p import latent_p
from hsae.hierarchy.coherence.moments import pair_moments
from hsae.hierarchy.coherence.random_classes import random_classes
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.statistics.label_sets import checked_labels

seeds = st.integers(0, 2**32 - 1)
MAX_PERMUTED = 6


def small_case(random_taxonomy, several_labels, seed, several):
    """A small DAG, images of some of its classes, and latents by their strongest images, dead ones included."""
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    n_classes = len(taxonomy.classes)
    present = np.sort(rng.permutation(n_classes)[:MAX_PERMUTED])
    n_images = int(rng.integers(3, 12))
    labels = rng.choice(present, n_images)
    labels[: len(present)] = present[:n_images]
    if several:
        labels = several_labels(np.searchsorted(present, labels), len(present), rng)
        wide = np.zeros((n_images, n_classes), bool)
        wide[:, present] = labels.toarray()
        labels = sp.csr_array(wide)  # type: ignore[assignment]
    labels = checked_labels(labels, n_images, n_classes)  # type: ignore[assignment]
    classes_of_image = [row.nonzero()[0] for row in labels.toarray()] if sp.issparse(labels) else labels[:, None]  # type: ignore[attr-defined]
    keep = np.zeros(n_classes, bool)
    keep[np.concatenate(list(classes_of_image))] = True
    top_images = np.full((6, 5), -1, np.int32)
    for latent in range(1, 6):
        n = int(rng.integers(1, min(5, n_images) + 1))
        top_images[latent, :n] = rng.choice(n_images, n, replace=False)
    assume(keep.sum() >= 3)
    return taxonomy, labels, classes_of_image, keep, top_images


def permuted(taxonomy, classes_of_image, keep, images):
    """`T_j` of one latent under every permutation of the kept classes; the identity comes first."""
    similarity, kept = slow_resnik(taxonomy), np.flatnonzero(keep)
    values = []
    for places in itertools.permutations(kept.tolist()):
        moved = dict(zip(kept.tolist(), places, strict=True))
        counts = pair_counts(images, [[moved[int(one)] for one in classes] for classes in classes_of_image])
        values.append(slow_coherence(counts, similarity))
    return values


@examples(40)
@given(seed=seeds, several=st.booleans())
def test_mean_and_variance_are_those_over_all_permutations(random_taxonomy, several_labels, seed, several):
    taxonomy, labels, classes_of_image, keep, top_images = small_case(random_taxonomy, several_labels, seed, several)
    pairs = top_class_pairs(top_images, labels, resnik_similarity(taxonomy))
    moments = pair_moments(pairs.resnik, keep)
    variance = moments.variance(pairs)
    for latent, images in enumerate(top_images):
        values = permuted(taxonomy, classes_of_image, keep, images[images >= 0])
        if math.isnan(values[0]):
            assert math.isnan(variance[latent])
        else:
            assert moments.mean == pytest.approx(np.mean(values), abs=1e-9)
            assert variance[latent] == pytest.approx(np.var(values), abs=1e-9)


@examples(12)
@given(seed=seeds, several=st.booleans())
def test_p_of_a_latent_is_the_share_of_permutations(random_taxonomy, several_labels, seed, several):
    taxonomy, labels, classes_of_image, keep, top_images = small_case(random_taxonomy, several_labels, seed, several)
    pairs = top_class_pairs(top_images, labels, resnik_similarity(taxonomy))
    draws = random_classes(np.flatnonzero(keep), int(keep.sum()), seed=3)
    p = latent_p(pairs, pairs.coherence(), draws)
    for latent, images in enumerate(top_images):
        values = np.array(permuted(taxonomy, classes_of_image, keep, images[images >= 0]))
        if math.isnan(values[0]):
            assert math.isnan(p[latent])
            continue
        expected = (values >= values[0] - 1e-9).mean()
        # 4.5 standard deviations of 10,000 draws; every p is at least that of the draws' own resolution.
        assert p[latent] == pytest.approx(expected, abs=4.5 * math.sqrt(expected * (1 - expected) / 10_000) + 1e-4)


def test_fewer_than_three_classes_have_no_moments(make_taxonomy):
    taxonomy = make_taxonomy([("a", "root"), ("b", "root")], ["a", "b"])
    assert math.isnan(pair_moments(resnik_similarity(taxonomy), np.ones(2, bool)).mean)


def test_three_classes_need_no_four_different_ones(make_taxonomy):
    """T of two classes is 1 of 3 similarities: 0, 0 and log2(3/2)."""
    taxonomy = make_taxonomy([("a", "g"), ("b", "g"), ("g", "root"), ("c", "root")], ["a", "b", "c"])
    pairs = top_class_pairs(np.array([[0, 1, -1]]), np.array([0, 1, 2]), resnik_similarity(taxonomy))
    moments = pair_moments(pairs.resnik, np.ones(3, bool))
    bits = math.log2(3 / 2)
    assert moments.mean == pytest.approx(bits / 3)
    assert moments.variance(pairs)[0] == pytest.approx(bits**2 * 2 / 9)


def test_draws_are_of_different_classes_in_every_order():
    draws = random_classes(np.array([2, 5, 7, 8]), 3, seed=0)
    assert draws.shape == (10_000, 3)
    counts = {}
    for row in map(tuple, draws.tolist()):
        counts[row] = counts.get(row, 0) + 1
    assert set(counts) == set(itertools.permutations([2, 5, 7, 8], 3))
    assert max(abs(n / 10_000 - 1 / 24) for n in counts.values()) < 5 * math.sqrt(1 / 24 / 10_000)
    np.testing.assert_array_equal(random_classes(np.array([2, 5, 7, 8]), 3, seed=0), draws)
    with pytest.raises(ValueError, match="5 different classes of 4"):
        random_classes(np.array([2, 5, 7, 8]), 5, seed=0)
