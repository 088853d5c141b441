"""Lowest common hypernyms by bits against those of the taxonomy."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.hierarchy.statistics.lowest_hypernyms import LowestHypernyms


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


def test_the_first_classes_of_a_row_are_sets_too(planted_case):
    taxonomy, lowest = planted_case.taxonomy, LowestHypernyms(planted_case.taxonomy)
    rows = np.stack([np.random.default_rng(seed).permutation(27)[:6] for seed in range(50)])
    found = lowest.of_prefixes(rows)
    for row, nodes in zip(rows, found, strict=True):
        assert nodes.tolist() == [taxonomy.lch(row[:n].tolist()) for n in range(1, 7)]
    np.testing.assert_array_equal(lowest.log_classes, np.log2(taxonomy.leaf_counts))
