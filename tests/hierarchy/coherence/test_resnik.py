import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.coherence.slow_coherence import slow_resnik

from hsae.errors import UserError
from hsae.hierarchy.coherence import resnik as module
from hsae.hierarchy.coherence.resnik import resnik_similarity

seeds = st.integers(0, 2**32 - 1)


@examples(80)
@given(seed=seeds)
def test_similarities_equal_a_loop_over_common_ancestors(random_taxonomy, seed):
    taxonomy = random_taxonomy(np.random.default_rng(seed))
    found, expected = resnik_similarity(taxonomy), slow_resnik(taxonomy)
    n_classes = len(taxonomy.classes)
    assert found.n_classes == n_classes
    for a in range(n_classes):
        for b in range(n_classes):
            assert found.of(np.array(a), np.array(b)) == pytest.approx(expected[a][b] or 0, abs=1e-12)


@examples(40)
@given(seed=seeds)
def test_row_sums_equal_loops_over_the_kept_classes(random_taxonomy, seed):
    rng = np.random.default_rng(seed)
    taxonomy = random_taxonomy(rng)
    n_classes = len(taxonomy.classes)
    keep = rng.random(n_classes) < 0.7
    similarity = slow_resnik(taxonomy)
    kept = np.flatnonzero(keep)
    found = resnik_similarity(taxonomy)
    sums, squares = found.row_sums(keep), found.row_sums(keep, power=2)
    np.testing.assert_allclose(sums, [sum(similarity[a][b] for b in kept if a != b) for a in kept], atol=1e-12)
    np.testing.assert_allclose(squares, [sum(similarity[a][b] ** 2 for b in kept if a != b) for a in kept], atol=1e-12)


def test_row_sums_do_not_depend_on_the_blocks(planted_case, monkeypatch):
    similarity = resnik_similarity(planted_case.taxonomy)
    keep = np.arange(27) % 4 > 0
    whole = similarity.row_sums(keep)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 50)
    np.testing.assert_array_equal(similarity.row_sums(keep), whole)


def test_classes_of_one_group_share_more_than_classes_of_one_kingdom(planted_case):
    """27 classes, 9 in a kingdom, 3 in a group: log2(27 / 3), log2(27 / 9) and 0 bits."""
    similarity = resnik_similarity(planted_case.taxonomy)
    assert similarity.bits == pytest.approx([0, np.log2(3), np.log2(9)])
    names = [planted_case.taxonomy.synsets[node].name for node in planted_case.taxonomy.classes]
    place = {name: number for number, name in enumerate(names)}
    left = np.array([place["k0g0c0"]] * 3)
    right = np.array([place["k0g0c1"], place["k0g2c1"], place["k1g0c0"]])
    assert similarity.of(left, right) == pytest.approx([np.log2(9), np.log2(3), 0])


def test_too_many_classes_are_refused(planted_case, monkeypatch):
    monkeypatch.setattr(module, "MAX_CLASSES", 26)
    with pytest.raises(UserError, match="27 classes do not fit memory: at most 26"):
        resnik_similarity(planted_case.taxonomy)
