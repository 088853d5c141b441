import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.scores import associations
from hsae.hierarchy.scores.associations import associated_classes
from hsae.hierarchy.scores.latent_scores import class_entropy, latent_places, mean_lca_depth
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def naive_topk(column, labels, threshold):
    firing = [image for image in range(len(column)) if column[image] > threshold]
    return {int(labels[image]) for image in sorted(firing, key=lambda i: (-column[i], i))[:16]}


def naive_rate(column, labels, threshold, n_classes):
    result = set()
    for label in range(n_classes):
        inside = column[labels == label]
        if (inside > threshold).any() and (inside > threshold).mean() >= 0.5:
            result.add(label)
    return result


def naive_mass(column, labels, n_classes):
    mass = {label: float(column[labels == label].sum(dtype=np.float64)) for label in range(n_classes)}
    result, held, total = set(), 0.0, math.fsum(mass.values())
    for label in sorted(mass, key=lambda label: (-mass[label], label)):
        if mass[label] == 0 or held >= 0.9 * total * (1 - 1e-12):
            break
        result.add(label)
        held += mass[label]
    return result


@examples(60)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5]))
def test_associated_classes_lch_coverage_and_entropy_equal_loops(random_case, seed, threshold):
    case = random_case(seed)
    taxonomy, labels = case.taxonomy, case.labels
    n_classes = len(taxonomy.classes)
    ranked = rank_activations(case.z, threshold=threshold)
    sums = sum_by_class(ranked, labels, n_classes)
    entropy = class_entropy(sums)
    closure = taxonomy.closure.toarray() > 0
    for rule in ("topk", "rate", "mass"):
        sets = associated_classes(rule, ranked, sums, labels)
        places = latent_places(sets, taxonomy)
        for latent in range(case.dense.shape[1]):
            column = case.dense[:, latent]
            expected = {
                "topk": lambda column=column: naive_topk(column, labels, threshold),
                "rate": lambda column=column: naive_rate(column, labels, threshold, n_classes),
                "mass": lambda column=column: naive_mass(column, labels, n_classes),
            }[rule]()
            members = sets.indices[sets.indptr[latent] : sets.indptr[latent + 1]]
            assert sorted(members.tolist()) == sorted(expected)
            assert places.n_associated[latent] == len(expected)
            if not expected:
                assert places.lch[latent] == -1
                for values in (places.height, places.height_relative, places.depth, places.coverage):
                    assert np.isnan(values[latent])
                continue
            common = [n for n in range(closure.shape[1]) if all(closure[label, n] for label in expected)]
            lch = min(common, key=lambda n: (taxonomy.height[n], closure[:, n].sum(), n))
            under = {label for label in range(n_classes) if closure[label, lch]}
            assert places.lch[latent] == lch
            assert places.height[latent] == taxonomy.height[lch]
            assert places.height_relative[latent] == taxonomy.height[lch] / taxonomy.height[taxonomy.root]
            assert places.depth[latent] == taxonomy.depth[lch]
            assert places.coverage[latent] == len(expected & under) / len(under)
    for latent in range(case.dense.shape[1]):
        fired = labels[case.dense[:, latent] > threshold].tolist()
        if not fired:
            assert np.isnan(entropy[latent])
        else:
            shares = [fired.count(label) / len(fired) for label in set(fired)]
            assert entropy[latent] == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)


@examples(40)
@given(seed=seeds, n_top=st.sampled_from([1, 2, 16]))
def test_mean_lca_depth_equals_a_loop_over_all_pairs(random_case, seed, n_top):
    case = random_case(seed)
    taxonomy, labels = case.taxonomy, case.labels
    ranked = rank_activations(case.z, n_top=n_top)
    found = mean_lca_depth(ranked.top_images, labels, taxonomy)
    closure = taxonomy.closure.toarray() > 0
    n_nodes = closure.shape[1]
    for latent in range(case.dense.shape[1]):
        column = case.dense[:, latent]
        strongest = sorted(np.flatnonzero(column > 0), key=lambda i: (-column[i], i))[:n_top]
        depths = []
        for left, right in itertools.combinations(strongest, 2):
            common = [n for n in range(n_nodes) if closure[labels[left], n] and closure[labels[right], n]]
            lowest = min(common, key=lambda n: (taxonomy.height[n], closure[:, n].sum(), n))
            depths.append(int(taxonomy.depth[lowest]))
        expected = sum(depths) / len(depths) if depths else np.nan
        np.testing.assert_equal(found[latent], expected)


def test_mass_share_that_is_reached_exactly_needs_no_further_class(monkeypatch):
    """Ten classes of equal mass: nine hold 90 %, whatever 0.1 times nine is in binary."""
    monkeypatch.setattr(associations, "_BLOCK_CELLS", 1)
    z = sp.csr_array(np.full((10, 2), 0.1, np.float32))
    ranked = rank_activations(z)
    sums = sum_by_class(ranked, np.arange(10), 10)
    sets = associated_classes("mass", ranked, sums, np.arange(10))
    assert [sets.indices[sets.indptr[j] : sets.indptr[j + 1]].tolist() for j in range(2)] == [list(range(9))] * 2


def test_ties_at_the_cut_are_broken_by_the_image():
    labels = np.arange(20)
    z = sp.csr_array(np.ones((20, 1), np.float32))
    ranked = rank_activations(z)
    sets = associated_classes("topk", ranked, sum_by_class(ranked, labels, 20), labels)
    assert sets.indices.tolist() == list(range(16))


def test_a_taxonomy_of_one_class_has_no_relative_height(make_taxonomy):
    taxonomy = make_taxonomy([("a", "root")], ["root"])
    places = latent_places(sp.csr_array(np.array([[True], [False]])), taxonomy)
    assert places.lch.tolist() == [0, -1]
    assert places.coverage[0] == 1
    assert np.isnan(places.height_relative).all()
