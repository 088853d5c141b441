import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom, mannwhitneyu, norm
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from tests.examples import examples

from hsae.hierarchy.scores import node_scores
from hsae.hierarchy.scores.adjusted_f1 import adjusted_f1
from hsae.hierarchy.scores.node_scores import NodeSums, iter_node_scores, score_pairs
from hsae.hierarchy.scores.pair_sums import NodeScores
from hsae.hierarchy.statistics.class_sums import sum_by_class
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)
FIELDS = list(NodeScores.__dataclass_fields__)


def sums_of(case, threshold=0.0):
    return sum_by_class(rank_activations(case.z, threshold=threshold), case.labels, len(case.taxonomy.classes))


def all_scores(sums, closure) -> dict[str, np.ndarray]:
    blocks = [scores for _, scores in iter_node_scores(sums, closure)]
    return {name: np.concatenate([getattr(block, name) for block in blocks]) for name in FIELDS}


@examples(25)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5]))
def test_scores_equal_sklearns_and_scipys(random_case, seed, threshold):
    case = random_case(seed)
    scores = all_scores(sums_of(case, threshold), case.taxonomy.closure)
    is_under = case.is_under()
    n_nodes = is_under.shape[1]
    for latent in range(case.dense.shape[1]):
        column = case.dense[:, latent].astype(np.float64)
        fires = column > threshold
        for node in range(n_nodes):
            got = {name: scores[name][latent, node] for name in FIELDS}
            under = is_under[:, node]
            assert got["n_images"] == under.sum()
            assert got["n_fire"] == fires.sum()
            assert got["n_both"] == (fires & under).sum()
            has_counts = under.any() and fires.any()
            has_mass = under.any() and column.any()
            has_test = under.any() and not under.all() and len(np.unique(column)) > 1
            for name, is_defined in {
                **dict.fromkeys(("precision", "recall", "f1"), has_counts),
                **dict.fromkeys(("mass_share", "mean_inside"), has_mass),
                "mean_outside": has_mass and not under.all(),
                **dict.fromkeys(("auroc", "z"), has_test),
                "f1_adjusted": has_counts and not under.all(),
                "p": (fires & under).sum() * len(under) > fires.sum() * under.sum(),
            }.items():
                assert np.isnan(got[name]) != is_defined, name
            if has_counts:
                expected = precision_recall_fscore_support(under, fires, average="binary")
                for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
                    assert got[name] == pytest.approx(value, abs=1e-12)
                expected = adjusted_f1(np.array([got["f1"]]), np.array([under.sum()]), len(under))
                np.testing.assert_array_equal(got["f1_adjusted"], expected[0])
            if not np.isnan(got["p"]):
                expected = hypergeom.sf((fires & under).sum() - 1, len(under), under.sum(), fires.sum())
                assert got["p"] == pytest.approx(expected, rel=1e-9)
            if has_mass:
                assert got["mass_share"] == pytest.approx(column[under].sum() / column.sum(), abs=1e-12)
                assert got["mean_inside"] == pytest.approx(column[under].mean(), abs=1e-12)
            if has_mass and not under.all():
                assert got["mean_outside"] == pytest.approx(column[~under].mean(), abs=1e-12)
                assert got["mean_outside"] >= 0
            if has_test:
                assert got["auroc"] == pytest.approx(roc_auc_score(under, column), abs=1e-9)
                test = mannwhitneyu(column[under], column[~under], method="asymptotic", use_continuity=False)
                assert 2 * norm.sf(abs(got["z"])) == pytest.approx(test.pvalue, rel=1e-9)
                assert np.sign(got["z"]) == np.sign(round(2 * test.statistic - under.sum() * (~under).sum()))


@examples(25)
@given(seed=seeds)
def test_chosen_pairs_and_blocks_are_bit_identical(random_case, seed):
    case = random_case(seed)
    sums = sums_of(case)
    closure = case.taxonomy.closure
    scores = all_scores(sums, closure)
    rng = np.random.default_rng(seed)
    latents = rng.integers(0, sums.n_latents, 20)
    nodes = rng.integers(0, closure.shape[1], 20)
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(node_scores, "_BLOCK_LATENTS", 3)
        chosen = score_pairs(NodeSums(sums, closure), latents, nodes)
        in_threes = all_scores(sums, closure)
    for name in FIELDS:
        np.testing.assert_array_equal(in_threes[name], scores[name], err_msg=name)
        np.testing.assert_array_equal(getattr(chosen, name), scores[name][latents, nodes], err_msg=name)


@examples(25)
@given(seed=seeds, threshold=st.sampled_from([0.0, 0.5]))
def test_hits_are_all_pairs_with_an_image_in_common(random_case, seed, threshold):
    case = random_case(seed)
    sums = NodeSums(sums_of(case, threshold), case.taxonomy.closure)
    n_both = (case.dense > threshold).T.astype(int) @ case.is_under()
    first = len(n_both) // 3
    latent, node, found = sums.hits(slice(first, len(n_both)))
    assert (np.diff(latent) >= 0).all()
    again = np.zeros(n_both.shape)
    again[latent, node] = found
    n_both[:first] = 0
    np.testing.assert_array_equal(again, n_both)
    assert (found > 0).all()
    f1 = sums.with_known_counts(latent, node, found).f1().numpy()
    np.testing.assert_array_equal(f1, all_scores(sums.sums, case.taxonomy.closure)["f1"][latent, node])


def test_one_image_per_class(make_taxonomy):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r"), ("c", "r")], ["a", "b", "c"])
    z = sp.csr_array(np.array([[2, 0], [0, 1], [0, 1]], np.float32))
    sums = sum_by_class(rank_activations(z), np.array([0, 1, 2]), 3)
    scores = all_scores(sums, taxonomy.closure)
    a, _, c, root = (next(i for i, s in enumerate(taxonomy.synsets) if s.id == name) for name in "abcr")
    assert scores["f1"][0, a] == 1
    assert scores["auroc"][0, a] == 1
    assert scores["auroc"][0, c] == 0.25
    assert np.isnan(scores["auroc"][:, root]).all()
    assert scores["f1"][1, root] == pytest.approx(0.8)


def test_a_class_above_another_class(make_taxonomy):
    """The images of both classes are the upper class's images."""
    taxonomy = make_taxonomy([("dog", "animal"), ("puppy", "dog"), ("cat", "animal")], ["dog", "puppy", "cat"])
    names = [synset.id for synset in taxonomy.synsets]
    position = {names[node]: place for place, node in enumerate(taxonomy.classes)}
    labels = np.array([position[name] for name in ("dog", "dog", "puppy", "cat", "cat")])
    z = sp.csr_array(np.array([[1], [2], [3], [0], [0]], np.float32))
    scores = all_scores(sum_by_class(rank_activations(z), labels, 3), taxonomy.closure)
    assert scores["n_images"][0].tolist() == [{"dog": 3, "puppy": 1, "cat": 2, "animal": 5}[n] for n in names]
    assert scores["f1"][0, names.index("dog")] == 1
    assert scores["precision"][0, names.index("puppy")] == pytest.approx(1 / 3)


def test_ranks_stay_exact_with_many_images():
    """Sums of ranks of 300,000 images are far beyond float32 and int32."""
    n_images = 300_000
    rng = np.random.default_rng(0)
    column = rng.integers(0, 50, n_images).astype(np.float32) * (rng.random(n_images) < 0.7)
    labels = rng.integers(0, 2, n_images)
    closure = sp.csr_array(np.array([[1, 0, 1], [0, 1, 1]], np.uint8))
    sums = sum_by_class(rank_activations(sp.csr_array(column[:, np.newaxis])), labels, 2)
    scores = all_scores(sums, closure)
    assert scores["auroc"][0, 0] == pytest.approx(roc_auc_score(labels == 0, column), abs=1e-12)
    left, right = (column[labels == label].astype(np.float64) for label in (0, 1))  # float32 is too coarse there
    test = mannwhitneyu(left, right, method="asymptotic", use_continuity=False)
    assert 2 * norm.sf(abs(scores["z"][0, 0])) == pytest.approx(test.pvalue, rel=1e-9)
