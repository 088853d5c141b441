"""Images of several labels, against loops over images and scikit-learn."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from tests.examples import examples
from tests.hierarchy.all_bases import assert_same, run
from tests.hierarchy.scoring import score_one

from hsae.errors import UserError
from hsae.hierarchy.controls.shuffles import shuffle_labels, shuffle_taxonomy
from hsae.hierarchy.scores.node_scores import iter_node_scores
from hsae.hierarchy.statistics.class_sums import ClassSums
from hsae.hierarchy.statistics.label_sets import checked_labels, classes_of, label_sets
from hsae.hierarchy.statistics.ranks import rank_activations

seeds = st.integers(0, 2**32 - 1)


def several_labels(case, seed: int) -> np.ndarray:
    """bool[n_images, n_classes]: the case's label and now and then others, some sets shared by many images."""
    rng = np.random.default_rng(seed)
    shape = (len(case.labels), len(case.taxonomy.classes))
    has = rng.random(shape) < rng.choice([0.1, 0.4])
    has[rng.random(shape[0]) < 0.5] = False
    has[np.arange(shape[0]), case.labels] = True
    return has


def is_under(has: np.ndarray, taxonomy) -> np.ndarray:
    """bool[n_images, n_nodes]: whether any of the image's classes lies under the node."""
    closure = taxonomy.closure.toarray() > 0
    return np.array([closure[np.flatnonzero(row)].any(axis=0) for row in has])


@examples(25)
@given(seed=seeds)
def test_node_scores_take_the_union_over_a_nodes_classes(random_case, seed):
    case = random_case(seed)
    has = several_labels(case, seed)
    labels = sp.csr_array(has)
    under = is_under(has, case.taxonomy)
    result = score_one(case.z, labels, case.taxonomy, basis="sae")
    sets = label_sets(checked_labels(labels, *has.shape), case.taxonomy)
    sums = ClassSums.from_arrays(result.class_sums.to_arrays())
    closure = sums.closure(case.taxonomy)
    np.testing.assert_array_equal(closure.toarray(), sets.closure.toarray())
    blocks = [scores for _, scores in iter_node_scores(sums, closure)]
    n_both, n_node, f1, auroc = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("n_both", "n_images", "f1", "auroc")
    )
    pairs = zip(result.nodes.latent, result.nodes.node, strict=True)
    precision = dict(zip(pairs, result.nodes.average_precision, strict=True))
    for latent, node in itertools.product(range(case.dense.shape[1]), range(under.shape[1])):
        truth, column = under[:, node], case.dense[:, latent].astype(np.float64)
        assert n_node[latent, node] == truth.sum()
        assert n_both[latent, node] == (truth & (column > 0)).sum()
        if truth.any() and column.any():
            assert f1[latent, node] == pytest.approx(f1_score(truth, column > 0), abs=1e-12)
        if truth.any() and not truth.all() and len(np.unique(column)) > 1:
            assert auroc[latent, node] == pytest.approx(roc_auc_score(truth, column), abs=1e-9)
            if (latent, node) in precision:
                expected = average_precision_score(truth, column)
                assert precision[latent, node] == pytest.approx(expected, abs=1e-9)


@examples(25)
@given(seed=seeds)
def test_latent_scores_equal_loops(random_case, seed):
    case = random_case(seed)
    has = several_labels(case, seed)
    taxonomy = case.taxonomy
    under = is_under(has, taxonomy)
    n_under = taxonomy.leaf_counts
    result = score_one(case.z, sp.csr_array(has), taxonomy, basis="sae", embeddings=case.neurons)
    for latent in range(case.dense.shape[1]):
        column = case.dense[:, latent]
        fired = np.flatnonzero(column > 0)
        counts = has[fired].sum(axis=0)
        shares = counts[counts > 0] / max(1, counts.sum())
        entropy = -sum(p * math.log2(p) for p in shares) if len(fired) else np.nan
        assert result.latents.class_entropy[latent] == pytest.approx(entropy, abs=1e-12, nan_ok=True)
        strongest = sorted(fired, key=lambda i: (-column[i], i))[:16]
        depths = []
        for left, right in itertools.combinations(strongest, 2):
            common = np.flatnonzero(under[left] & under[right])
            lowest = min(common, key=lambda n: (taxonomy.height[n], n_under[n], n))
            depths.append(int(taxonomy.depth[lowest]))
        expected = sum(depths) / len(depths) if depths else np.nan
        assert result.latents.lca_depth_mean[latent] == pytest.approx(expected, abs=1e-12, nan_ok=True)
        with np.errstate(invalid="ignore"):
            rate = (has & (column > 0)[:, None]).sum(axis=0) / has.sum(axis=0)
        mass = (has * column[:, None].astype(np.float64)).sum(axis=0)
        order = np.lexsort((np.arange(len(mass)), -mass))
        before = np.cumsum(mass[order]) - mass[order]
        heavy = int(((before < (0.9 - 1e-12) * mass.sum()) & (mass[order] > 0)).sum())
        for rule, n_classes in (
            ("topk", has[strongest].any(axis=0).sum()),
            ("rate", ((rate >= 0.5) & (rate > 0)).sum()),
            ("mass", heavy),
        ):
            assert result.places[rule].n_associated[latent] == n_classes, rule


@examples(15)
@given(seed=seeds)
def test_a_matrix_of_single_labels_gives_the_same_bits(random_case, seed):
    case = random_case(seed)
    matrix = np.zeros((len(case.labels), len(case.taxonomy.classes)), np.uint8)
    matrix[np.arange(len(case.labels)), case.labels] = 1
    assert_same(run(case, seed=seed), run(replace(case, labels=sp.csr_array(matrix)), seed=seed))


def test_all_bases_of_images_with_several_labels(planted_case):
    """Every image is also of the next class of its group: groups and kingdoms keep their images."""
    has = np.zeros((len(planted_case.labels), 27), np.bool_)
    images = np.arange(len(has))
    has[images, planted_case.labels] = True
    has[images, planted_case.labels // 3 * 3 + (planted_case.labels + 1) % 3] = True
    several = run(replace(planted_case, labels=sp.csr_array(has)))
    single = run(planted_case)
    inner = planted_case.taxonomy.height > 0
    for name in ("label_f1", "label_auroc"):
        ours, theirs = (getattr(results[0].latents, name)[inner] for results in (several, single))
        np.testing.assert_array_equal(ours, theirs)
    assert (several[0].latents.coverage[inner] >= single[0].latents.coverage[inner]).all()
    for result in several:
        if result.basis.startswith("shuffled"):
            assert result.layer.best_f1_inner_mean < 0.8 * several[0].layer.best_f1_inner_mean
    assert_same(several, run(replace(planted_case, labels=sp.csr_array(has.astype(np.int64)))))


@examples(30)
@given(seed=seeds)
def test_sets_and_shuffles_keep_every_label(random_case, seed):
    case = random_case(seed)
    has = several_labels(case, seed)
    labels = checked_labels(sp.csr_array(has), *has.shape)
    sets = label_sets(labels, case.taxonomy)
    np.testing.assert_array_equal(sets.closure.toarray()[sets.of_image] > 0, is_under(has, case.taxonomy))
    images = np.random.default_rng(seed).integers(0, len(has), 9)
    place, classes = classes_of(labels, images)
    found = [sorted(classes[place == i].tolist()) for i in range(len(images))]
    assert found == [np.flatnonzero(has[image]).tolist() for image in images]
    if not sp.issparse(labels):
        return
    assert sets.n_sets == len(np.unique(has, axis=0))
    shuffled, moved = shuffle_labels(labels, seed), shuffle_taxonomy(labels, has.shape[1], seed)
    assert sorted(map(tuple, shuffled.toarray())) == sorted(map(tuple, has))
    places, present = np.arange(has.shape[1]), np.flatnonzero(has.any(axis=0))
    places[present] = np.random.Generator(np.random.PCG64(seed)).permutation(present)  # classes without images stay
    np.testing.assert_array_equal(moved.toarray()[:, places], has)


def test_stored_zeros_are_no_labels():
    labels = sp.csr_array((np.array([1, 0, 1], np.uint8), np.array([1, 0, 0]), np.array([0, 2, 3])), shape=(2, 2))
    np.testing.assert_array_equal(checked_labels(labels, 2, 2), [1, 0])


@pytest.mark.parametrize(
    ("has", "message"),
    [
        ([[1, 0], [0, 0], [1, 1]], "1 images have no label .the first: image 1"),
        ([[1, 0], [1, 1]], "labels of 2 images and 2 classes for the activations of 3"),
        ([[1, 0, 0], [1, 1, 0], [0, 0, 1]], "3 images and 3 classes"),
    ],
)
def test_label_matrices_that_do_not_fit_are_refused(has, message):
    ranked = rank_activations(sp.csr_array(np.eye(3, dtype=np.float32)))
    with pytest.raises(UserError, match=message):
        checked_labels(sp.csr_array(np.array(has, np.uint8)), ranked.n_images, 2)


def test_weights_are_no_labels():
    with pytest.raises(TypeError, match="bool or integers"):
        checked_labels(sp.csr_array(np.eye(2)), 2, 2)


def test_stored_sums_of_label_sets_bring_their_sets(random_case):
    case = random_case(1)
    has = np.zeros((len(case.labels), len(case.taxonomy.classes)), np.bool_)
    has[:, :2] = True
    arrays = score_one(case.z, sp.csr_array(has), case.taxonomy, basis="sae").class_sums.to_arrays()
    np.testing.assert_array_equal(arrays["set_indptr"], [0, 2])
    np.testing.assert_array_equal(arrays["set_classes"], [0, 1])
    with pytest.raises(UserError, match="lack set_classes"):
        ClassSums.from_arrays({name: values for name, values in arrays.items() if name != "set_classes"})
    with pytest.raises(UserError, match="do not fit"):
        ClassSums.from_arrays(arrays | {"set_classes": arrays["set_classes"][:-1]})
    single = score_one(case.z, case.labels, case.taxonomy, basis="sae").class_sums
    assert not {"set_indptr", "set_classes"} & single.to_arrays().keys()
    assert single.closure(case.taxonomy) is case.taxonomy.closure
