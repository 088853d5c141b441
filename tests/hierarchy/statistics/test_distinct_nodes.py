import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import checked_labels, label_sets

seeds = st.integers(0, 2**32 - 1)


def check(labels, taxonomy):
    """Compare with sets of images, node by node."""
    n_nodes = len(taxonomy.synsets)
    nodes = distinct_nodes(label_sets(labels, taxonomy), labels, taxonomy)
    matrix = labels.toarray() if sp.issparse(labels) else np.eye(len(taxonomy.classes), dtype=int)[labels]  # type: ignore[attr-defined]
    closure = taxonomy.closure.toarray() > 0
    images = [frozenset(np.flatnonzero(matrix[:, closure[:, node]].any(axis=1)).tolist()) for node in range(n_nodes)]
    assert nodes.n_images == len(matrix)
    for node in range(n_nodes):
        same = [other for other in range(n_nodes) if images[other] == images[node]]
        assert nodes.n_node[node] == len(images[node])
        assert nodes.representative[node] == min(same, key=lambda other: (-taxonomy.depth[other], other))
        assert nodes.n_classes[node] == (matrix.any(axis=0) & closure[:, node]).sum()
        is_first = nodes.representative[node] == node
        assert nodes.counts[node] == (is_first and 0 < len(images[node]) < len(matrix))
    strata = np.stack(nodes.strata())
    np.testing.assert_array_equal(strata.sum(axis=0), nodes.counts)
    for n_classes, stratum in zip((1, 2, 3), strata, strict=True):
        assert (np.minimum(nodes.n_classes[stratum], 3) == n_classes).all()


@examples(60)
@given(seed=seeds)
def test_nodes_with_the_same_images_have_one_representative(random_case, seed):
    case = random_case(seed)
    check(checked_labels(case.labels, len(case.labels), len(case.taxonomy.classes)), case.taxonomy)


@examples(40)
@given(seed=seeds)
def test_images_of_several_labels(random_case, seed):
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    rng = np.random.default_rng(seed)
    several = rng.random((len(case.labels), n_classes)) < 0.3
    several[np.arange(len(case.labels)), case.labels] = True
    check(checked_labels(sp.csr_array(several), *several.shape), case.taxonomy)


def test_a_chain_of_hypernyms_of_one_class_counts_once(make_taxonomy):
    taxonomy = make_taxonomy([("dog", "canine"), ("canine", "animal"), ("cat", "animal")], ["dog", "cat"])
    labels = np.array([0, 0, 1])
    nodes = distinct_nodes(label_sets(labels, taxonomy), labels, taxonomy)
    names = [synset.id for synset in taxonomy.synsets]
    assert names[nodes.representative[names.index("canine")]] == "dog"
    assert {names[node] for node in np.flatnonzero(nodes.counts)} == {"dog", "cat"}


@pytest.mark.parametrize("n_images", [0, 1])
def test_few_images(make_taxonomy, n_images):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    labels = np.zeros(n_images, np.int64)
    nodes = distinct_nodes(label_sets(labels, taxonomy), labels, taxonomy)
    assert not nodes.counts.any()
