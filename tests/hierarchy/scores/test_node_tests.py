"""The tests of nodes against SciPy, latent by latent; and how often shuffled labels pass them."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom
from tests.examples import examples

from hsae.hierarchy.scores import node_scores
from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1
from hsae.hierarchy.scores.node_scores import NodeSums
from hsae.hierarchy.scores.node_tests import node_tests
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.distinct_nodes import distinct_nodes
from hsae.hierarchy.statistics.label_sets import label_sets
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def sums_of(z, labels, taxonomy):
    return NodeSums(sum_by_class(rank_activations(z), labels, len(taxonomy.classes)), taxonomy.closure)


def exact_tests(z, labels, taxonomy):
    scored = sums_of(z, labels, taxonomy)
    return node_tests(scored, scored, distinct_nodes(label_sets(labels, taxonomy), labels, taxonomy))


def pair_p(fires, under):
    """P(X >= hits) of every pair above chance, 1 of the others; [n_latents, n_nodes]."""
    n_images = len(fires)
    p = np.ones((fires.shape[1], under.shape[1]))
    for latent in range(fires.shape[1]):
        for node in range(under.shape[1]):
            n_both, n_fire, n_node = (
                (fires[:, latent] & under[:, node]).sum(),
                fires[:, latent].sum(),
                under[:, node].sum(),
            )
            if n_both * n_images > n_fire * n_node:
                p[latent, node] = hypergeom.sf(n_both - 1, n_images, n_node, n_fire)
    return p


@examples(60)
@given(seed=seeds, width=st.sampled_from([1, 3, 256]))
def test_nodes_are_tested_by_their_best_latent(random_case, seed, width):
    case = random_case(seed)
    fires, under = case.dense > 0, case.is_under()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node_scores, "_BLOCK_LATENTS", width)
        found = exact_tests(case.z, case.labels, case.taxonomy)
    assert found.n_alive == fires.any(axis=0).sum()
    n_under = under.sum(axis=0)
    has_test = (n_under > 0) & (n_under < len(under))
    best = 1 - (1 - pair_p(fires, under).min(axis=0)) ** max(found.n_alive, 1)
    np.testing.assert_allclose(found.p[has_test], best[has_test], rtol=1e-9, atol=1e-14)
    assert np.isnan(found.p[~has_test]).all()
    assert np.isnan(found.q[~has_test]).all()
    distinct = {under[:, node].tobytes(): node for node in np.flatnonzero(has_test)}
    if distinct:
        q = dict(zip(distinct, false_discovery_control(found.p[list(distinct.values())]), strict=True))
        expected = [q[under[:, node].tobytes()] for node in np.flatnonzero(has_test)]
        np.testing.assert_allclose(found.q[has_test], expected, rtol=1e-12)


@examples(40)
@given(seed=seeds)
def test_columns_reach_a_node_on_both_parts_of_the_images(random_case, seed):
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    other = rng.integers(0, len(case.taxonomy.classes), len(case.labels))
    scored, selecting = (sums_of(case.z, labels, case.taxonomy) for labels in (case.labels, other))
    nodes = distinct_nodes(label_sets(case.labels, case.taxonomy), case.labels, case.taxonomy)
    fires = case.dense > 0
    reaches = []
    for labels in (case.labels, other):
        under = case.taxonomy.closure.toarray()[labels] > 0
        n_both = fires.T.astype(int) @ under
        with np.errstate(invalid="ignore"):
            f1 = 2 * n_both / (fires.sum(axis=0)[:, np.newaxis] + under.sum(axis=0))
        reaches.append(adjusted_f1(f1, under.sum(axis=0)[np.newaxis], len(labels)) >= 0.5)
    assert node_tests(scored, selecting, nodes).n_reaching.tolist() == (reaches[0] & reaches[1]).sum(axis=0).tolist()
    assert node_tests(scored, scored, nodes).n_reaching.tolist() == reaches[0].sum(axis=0).tolist()


@examples(40)
@given(seed=seeds)
def test_the_q_of_a_pair_is_that_of_its_node_if_it_is_the_best(random_case, seed):
    case = random_case(seed)
    found = exact_tests(case.z, case.labels, case.taxonomy)
    fires, under = case.dense > 0, case.is_under()
    p = pair_p(fires, under)
    q = np.stack([found.q_of(row) for row in p])
    at_least = np.where(np.isnan(found.q), 0, found.q)
    assert (q >= at_least * (1 - 1e-9)).all()
    order = np.argsort(p.ravel())
    assert (np.diff(q.ravel()[order]) >= 0).all()
    assert np.isnan(found.q_of(np.array([np.nan]))).all()


def test_a_perfect_latent_of_many_images_underflows_to_0(make_taxonomy):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    labels = np.repeat([0, 1], 3_000)
    found = exact_tests(sp.csr_array((labels == 0).astype(np.float32)[:, np.newaxis]), labels, taxonomy)
    assert found.q.tolist()[:2] == [0, 1]
    assert found.n_reaching.tolist()[:2] == [1, 0]


def test_the_pass_can_be_stopped(random_case):
    case = random_case(3)
    scored = sums_of(case.z, case.labels, case.taxonomy)

    def stop():
        raise KeyboardInterrupt

    nodes = distinct_nodes(label_sets(case.labels, case.taxonomy), case.labels, case.taxonomy)
    with pytest.raises(KeyboardInterrupt):
        node_tests(scored, scored, nodes, check=stop)
