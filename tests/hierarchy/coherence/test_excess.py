import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.coherence.slow_coherence import pair_counts, slow_coherence, slow_resnik, strongest_images

from hsae.hierarchy.coherence import class_pairs
from hsae.hierarchy.coherence.class_pairs import class_pairs_of_counts, top_class_pairs
from hsae.hierarchy.coherence.excess import coherence_excess
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.statistics.label_sets import checked_labels
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


@examples(80)
@given(seed=seeds, several=st.booleans())
def test_coherence_and_its_excess_equal_loops(random_case, several_labels, seed, several):
    case, rng = random_case(seed), np.random.default_rng(seed)
    taxonomy = case.taxonomy
    n_classes = len(taxonomy.classes)
    labels = several_labels(case.labels, n_classes, rng) if several else case.labels
    labels = checked_labels(labels, len(case.labels), n_classes)
    classes_of_image = [row.nonzero()[0] for row in labels.toarray()] if sp.issparse(labels) else labels[:, None]
    keep = rng.random(n_classes) < 0.8
    similarity, resnik = slow_resnik(taxonomy), resnik_similarity(taxonomy)
    ranked = rank_activations(case.z)
    pairs = top_class_pairs(ranked.top_images, labels, resnik)
    counts = [pair_counts(strongest_images(column), classes_of_image) for column in case.dense.T]
    np.testing.assert_allclose(pairs.coherence(), [slow_coherence(one, similarity) for one in counts], atol=1e-12)

    kept_counts = [{(a, b): n for (a, b), n in one.items() if keep[a] and keep[b]} for one in counts]
    values = [slow_coherence(one, similarity) for one in kept_counts]
    null = [similarity[a][b] for a in np.flatnonzero(keep) for b in np.flatnonzero(keep) if a != b]
    has = [latent for latent, value in enumerate(values) if not math.isnan(value)]
    uniform, weighted = coherence_excess(pairs, keep, ranked.n_fire)
    if keep.sum() < 3 or not has:
        assert math.isnan(uniform)
        assert math.isnan(weighted)
    else:
        mu0 = sum(null) / len(null)
        n_fire = ranked.n_fire
        assert uniform == pytest.approx(sum(values[j] - mu0 for j in has) / len(has))
        assert weighted == pytest.approx(sum((values[j] - mu0) * n_fire[j] for j in has) / sum(n_fire[has]))


@examples(40)
@given(seed=seeds)
def test_pairs_from_counts_are_those_from_images(random_case, seed):
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    top_images = rank_activations(case.z).top_images
    counts = np.zeros((len(top_images), n_classes), np.int64)
    for latent, images in enumerate(top_images):
        np.add.at(counts[latent], case.labels[images[images >= 0]], 1)
    resnik = resnik_similarity(case.taxonomy)
    one = top_class_pairs(top_images, case.labels, resnik)
    other = class_pairs_of_counts(sp.csr_array(counts), resnik)
    assert one.n_latents == other.n_latents
    for left, right in zip(one.blocks, other.blocks, strict=True):
        np.testing.assert_array_equal(left.latents, right.latents)
        np.testing.assert_array_equal(left.classes, right.classes)
        np.testing.assert_array_equal(left.weight, right.weight)


def test_an_image_of_several_classes_is_no_pair_of_its_own(make_taxonomy):
    taxonomy = make_taxonomy([("a", "g"), ("b", "g"), ("g", "root"), ("c", "root")], ["a", "b", "c"])
    labels = sp.csr_array(np.array([[1, 1, 0], [0, 0, 1]], bool))
    top_images = np.array([[0, -1], [0, 1]], np.int32)
    coherence = top_class_pairs(top_images, checked_labels(labels, 2, 3), resnik_similarity(taxonomy)).coherence()
    assert math.isnan(coherence[0])  # its classes a and b are of one image
    assert coherence[1] == 0  # a with c and b with c, not a with b


def test_values_do_not_depend_on_the_blocks(random_case, monkeypatch):
    case = random_case(7)
    resnik = resnik_similarity(case.taxonomy)
    top_images = rank_activations(case.z).top_images
    whole = top_class_pairs(top_images, case.labels, resnik).coherence()
    monkeypatch.setattr(class_pairs, "_BLOCK_CELLS", 1)
    assert np.isfinite(whole).sum() > 1
    np.testing.assert_array_equal(top_class_pairs(top_images, case.labels, resnik).coherence(), whole)


def test_fewer_than_three_classes_have_no_excess(make_taxonomy):
    taxonomy = make_taxonomy([("a", "root"), ("b", "root")], ["a", "b"])
    pairs = class_pairs_of_counts(sp.csr_array(np.array([[3, 2]])), resnik_similarity(taxonomy))
    excess = coherence_excess(pairs, np.ones(2, bool), np.array([5]))
    assert all(math.isnan(value) for value in excess)


@examples(30)
@given(seed=seeds)
def test_many_choices_and_permutations_at_once_are_each_one_alone(random_case, seed):
    case, rng = random_case(seed), np.random.default_rng(seed)
    n_classes = len(case.taxonomy.classes)
    resnik, top_images = resnik_similarity(case.taxonomy), rank_activations(case.z).top_images
    pairs = top_class_pairs(top_images, case.labels, resnik)
    keeps = [*(rng.random((3, n_classes)) < 0.7), None]
    permutations = [rng.permutation(n_classes) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_pairs, "_CHUNK_ROWS", 2)
        kept, moved = pairs.coherences(keeps), pairs.moved_coherences(permutations)
    for keep, values in zip(keeps, kept, strict=True):
        np.testing.assert_allclose(values, pairs.coherence(keep), rtol=1e-12)
    for places, values in zip(permutations, moved, strict=True):
        relabelled = top_class_pairs(top_images, places[case.labels], resnik)
        np.testing.assert_allclose(values, relabelled.coherence(), rtol=1e-12, atol=1e-12)
