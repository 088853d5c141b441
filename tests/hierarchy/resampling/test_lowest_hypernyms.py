"""Lowest common hypernyms by bits against those of the taxonomy."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.resampling.lowest_hypernyms import LowestHypernyms


@examples(60)
@given(st.integers(0, 2**20))
def test_sets_have_the_lowest_common_hypernym_of_the_taxonomy(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    sets = sp.csr_array(rng.random((20, len(taxonomy.classes))) < rng.random((20, 1)))
    found = LowestHypernyms(taxonomy).of_sets(sets.indptr, sets.indices)
    np.testing.assert_array_equal(found, taxonomy.lch_many(sets))


def test_more_nodes_than_a_word_has_bits(make_taxonomy):
    rng = np.random.default_rng(0)
    edges = [(f"n{i}", f"n{rng.integers(i)}") for i in range(1, 400)]
    parents = {parent for _, parent in edges}
    taxonomy = make_taxonomy(edges, [f"n{i}" for i in range(1, 400) if f"n{i}" not in parents])
    sets = sp.csr_array(rng.random((300, len(taxonomy.classes))) < 0.01)
    found = LowestHypernyms(taxonomy).of_sets(sets.indptr, sets.indices)
    np.testing.assert_array_equal(found, taxonomy.lch_many(sets))


def test_the_expectation_is_that_of_random_sets(planted_case):
    taxonomy = planted_case.taxonomy
    expected = LowestHypernyms(taxonomy).expected_log2(taxonomy.leaf_counts, 30, seed=0)
    assert np.isnan(expected[0])
    assert np.isnan(expected[28:]).all()
    assert expected[1] == 0
    np.testing.assert_allclose(expected[27], np.log2(27), rtol=1e-12)
    # Two classes share their group (2 of 26), their kingdom (6 of 26), or only the root.
    exact = (2 * np.log2(3) + 6 * np.log2(9) + 18 * np.log2(27)) / 26
    assert abs(expected[2] - exact) < 0.03
