import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve
from tests.examples import examples

from hsae.errors import UserError
from hsae.hierarchy.scores import ranking_scores as kernel
from hsae.hierarchy.scores.ranking_scores import ranking_scores
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def slow_best_f1(under, column):
    """Every positive activation as a threshold; the greatest of the best."""
    best = (0.0, np.nan)
    for threshold in sorted(set(column[column > 0].tolist()), reverse=True):
        fires = column >= threshold
        f1 = 2 * int((fires & under).sum()) / int(fires.sum() + under.sum())
        if f1 > best[0]:
            best = (f1, threshold)
    return best


def sklearns_best_f1(under, column):
    precision, recall, thresholds = precision_recall_curve(under, column)
    with np.errstate(invalid="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    return f1[thresholds > 0].max()


def check_all_pairs(case, threshold=0.0):
    n_latents, n_nodes = case.dense.shape[1], case.taxonomy.closure.shape[1]
    latents, nodes = (pairs.ravel() for pairs in np.meshgrid(range(n_latents), range(n_nodes), indexing="ij"))
    shuffled = np.random.default_rng(0).permutation(len(latents))
    latents, nodes = latents[shuffled], nodes[shuffled]
    ranked = rank_activations(case.z, threshold=threshold)
    scores = ranking_scores(ranked, case.labels, case.taxonomy.closure, latents, nodes)
    is_under = case.is_under()
    for place, (latent, node) in enumerate(zip(latents, nodes, strict=True)):
        under, column = is_under[:, node], case.dense[:, latent].astype(np.float64)
        if not under.any() or under.all() or len(np.unique(column)) == 1:
            assert np.isnan(scores.average_precision[place])
        else:
            assert scores.average_precision[place] == pytest.approx(average_precision_score(under, column), abs=1e-12)
        if not under.any() or not column.any():
            assert np.isnan(scores.best_f1[place])
            assert np.isnan(scores.best_threshold[place])
            continue
        best_f1, best_threshold = slow_best_f1(under, column)
        assert scores.best_f1[place] == best_f1
        np.testing.assert_equal(scores.best_threshold[place], best_threshold)
        assert best_f1 == pytest.approx(sklearns_best_f1(under, column), abs=1e-12)
        firing = column > threshold
        if firing.any():
            assert best_f1 >= 2 * int((firing & under).sum()) / int(firing.sum() + under.sum())


@examples(40)
@given(seed=seeds, width=st.sampled_from([1, 30, 1 << 21]), threshold=st.sampled_from([0.0, 0.5]))
def test_average_precision_and_best_f1_equal_sklearns(random_case, seed, width, threshold):
    """Ties, dead, constant and dense latents, one class only, classes above classes; whatever the blocks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "_BLOCK_ENTRIES", width)
        check_all_pairs(random_case(seed), threshold)


def test_blocks_do_not_change_a_bit(planted_case):
    ranked = rank_activations(planted_case.z)
    n_latents, n_nodes = planted_case.z.shape[1], planted_case.taxonomy.closure.shape[1]
    latents, nodes = np.divmod(np.arange(n_latents * n_nodes), n_nodes)
    found = []
    for width in (1, 1000, 1 << 21):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "_BLOCK_ENTRIES", width)
            scores = ranking_scores(ranked, planted_case.labels, planted_case.taxonomy.closure, latents, nodes)
        found.append((scores.average_precision, scores.best_f1, scores.best_threshold))
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_one_image_per_class_and_a_class_above_another(make_taxonomy):
    taxonomy = make_taxonomy([("dog", "animal"), ("puppy", "dog"), ("cat", "animal")], ["dog", "puppy", "cat"])
    names = [synset.id for synset in taxonomy.synsets]
    position = {names[node]: place for place, node in enumerate(taxonomy.classes)}
    labels = np.array([position[name] for name in ("dog", "puppy", "cat")])
    ranked = rank_activations(sp.csr_array(np.array([[1], [3], [2]], np.float32)))
    nodes = np.array([names.index(name) for name in ("dog", "puppy", "cat", "animal")])
    scores = ranking_scores(ranked, labels, taxonomy.closure, np.zeros(4, int), nodes)
    np.testing.assert_allclose(scores.average_precision, [(1 + 2 / 3) / 2, 1, 1 / 2, np.nan])
    np.testing.assert_allclose(scores.best_f1, [4 / 5, 1, 2 / 3, 1])
    np.testing.assert_array_equal(scores.best_threshold, [1, 3, 2, 1])


def test_of_two_thresholds_with_one_f1_the_greater_is_kept(make_taxonomy):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r")], ["a", "b"])
    # 6: one of 1, F1 = 2 / (1 + 3); 2: two of 5, F1 = 4 / (5 + 3).
    column = np.array([[6], [5], [4], [3], [2], [0]], np.float32)
    labels = np.array([0, 1, 1, 1, 0, 0])
    node = np.array([[synset.id for synset in taxonomy.synsets].index("a")])
    scores = ranking_scores(rank_activations(sp.csr_array(column)), labels, taxonomy.closure, np.array([0]), node)
    assert (scores.best_f1[0], scores.best_threshold[0]) == (0.5, 6)


def test_the_threshold_of_a_latent_with_a_noise_floor_is_found(planted_case):
    """A latent that fires everywhere, but more strongly on its node: F1 at 0 is chance, its own threshold is not."""
    rng = np.random.default_rng(3)
    is_under = planted_case.is_under()
    dense = (rng.uniform(0.1, 0.9, is_under.shape) + is_under).astype(np.float32)
    ranked = rank_activations(sp.csr_array(dense))
    nodes = np.flatnonzero(~is_under.all(axis=0))
    scores = ranking_scores(ranked, planted_case.labels, planted_case.taxonomy.closure, nodes, nodes)
    np.testing.assert_allclose(scores.average_precision, 1)
    np.testing.assert_array_equal(scores.best_f1, 1)
    weakest_inside = [dense[is_under[:, node], node].min() for node in nodes]
    np.testing.assert_array_equal(scores.best_threshold, weakest_inside)


def test_no_pair_and_labels_that_do_not_fit(planted_case):
    ranked, closure = rank_activations(planted_case.z), planted_case.taxonomy.closure
    none = np.zeros(0, np.int64)
    assert len(ranking_scores(ranked, planted_case.labels, closure, none, none).best_f1) == 0
    with pytest.raises(UserError, match="one label per image"):
        ranking_scores(ranked, planted_case.labels[1:], closure, none, none)
