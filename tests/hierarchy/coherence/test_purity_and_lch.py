import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.coherence.slow_coherence import strongest_images

from hsae.hierarchy.coherence.class_pairs import class_pairs_of_counts
from hsae.hierarchy.coherence.lch_excess import expected_lch_bits, lch_excess
from hsae.hierarchy.coherence.purity import null_purity, purity
from hsae.hierarchy.coherence.random_classes import random_classes
from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.statistics.label_sets import checked_labels
from hsae.hierarchy.statistics.lowest_hypernyms import LowestHypernyms
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def slow_purity(images, classes_of_image):
    pairs = [
        a == b
        for one, other in itertools.permutations(images, 2)
        for a in classes_of_image[one]
        for b in classes_of_image[other]
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


@examples(60)
@given(seed=seeds, several=st.booleans())
def test_purity_and_its_null_equal_loops(random_case, several_labels, seed, several):
    case = random_case(seed)
    n_images, n_classes = len(case.labels), len(case.taxonomy.classes)
    labels = several_labels(case.labels, n_classes, np.random.default_rng(seed)) if several else case.labels
    labels = checked_labels(labels, n_images, n_classes)
    classes_of_image = [row.nonzero()[0] for row in labels.toarray()] if sp.issparse(labels) else labels[:, None]
    found = purity(rank_activations(case.z).top_images, labels, n_classes)
    expected = [slow_purity(strongest_images(column), classes_of_image) for column in case.dense.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert null_purity(labels, n_classes) == pytest.approx(slow_purity(range(n_images), classes_of_image), nan_ok=True)


def test_purity_of_one_class_each_is_the_share_of_pairs_of_one_class():
    labels = np.array([0, 0, 0, 1, 2])
    assert purity(np.array([[0, 1, 2, 3]]), labels, 3)[0] == 6 / 12
    assert null_purity(labels, 3) == 6 / 20
    assert math.isnan(purity(np.array([[0, -1]]), labels, 3)[0])


@examples(20)
@given(seed=seeds)
def test_expected_size_of_the_lch_is_that_of_all_choices(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    classes = np.sort(rng.permutation(len(taxonomy.classes))[:6])
    hypernyms = LowestHypernyms(taxonomy)
    found = expected_lch_bits(hypernyms, random_classes(classes, len(classes), seed=5))
    assert len(found) == len(classes)
    for k in range(1, len(classes) + 1):
        sizes = []
        for one in itertools.combinations(classes, k):
            sizes.append(math.log2(taxonomy.leaf_counts[taxonomy.lch(list(one))]))
            assert hypernyms.log_classes[hypernyms.of_prefixes(np.array([one]))[0, -1]] == pytest.approx(sizes[-1])
        assert found[k - 1] == pytest.approx(np.mean(sizes), abs=4.5 * np.std(sizes) / math.sqrt(10_000) + 1e-9)  # type: ignore[arg-type]


def test_lch_excess_is_for_latents_with_support(planted_case):
    """Latents: dead, of one class, of a group but on 15 images, of a group, of two kingdoms."""
    taxonomy = planted_case.taxonomy
    place = {taxonomy.synsets[node].name: number for number, node in enumerate(taxonomy.classes)}
    counts = np.zeros((5, 27), np.int64)
    counts[1, place["k0g0c0"]] = 16
    counts[2, [place["k0g0c0"], place["k0g0c1"], place["k0g0c2"]]] = 5
    counts[3, [place["k0g0c0"], place["k0g0c1"], place["k0g0c2"]]] = 5, 5, 6
    counts[4, [place["k0g0c0"], place["k1g0c0"]]] = 8
    pairs = class_pairs_of_counts(sp.csr_array(counts), resnik_similarity(taxonomy))
    expected = np.array([0, 4.0, 4.5])
    found = lch_excess(pairs, np.array([0, 99, 15, 16, 16]), LowestHypernyms(taxonomy), expected)
    np.testing.assert_allclose(found, [math.nan, math.nan, math.nan, 4.5 - math.log2(3), 4 - math.log2(27)])
