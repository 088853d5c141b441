"""Replicates against a plain recount over the images that are left."""

from itertools import combinations, permutations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.resampling.measuring import label_matrix, measure

from hsae.hierarchy.coherence.resnik import resnik_similarity
from hsae.hierarchy.resampling.deleted_classes import kept_classes, replicate_headlines

METRICS = {
    "coherence_excess", "coherence_excess_weighted", "f1_adjusted_inner_mean", "f1_adjusted_mean", "purity_mean",
    "lch_excess_mean",
}  # fmt: skip


def _mean(values):
    values = [value for value in values if not np.isnan(value)]
    return np.mean(values) if values else np.nan


def _recount(dense, has_label, taxonomy, measured, counted, keep):
    """Every headline number over the images with a kept class, by loops."""
    left = has_label & keep
    alive = left.any(axis=1)
    under = (left.astype(int) @ taxonomy.closure.toarray()) > 0
    fires = (dense > 0) & alive[:, None]
    n = int(alive.sum())
    f1 = {}
    for node in counted:
        n_node, latent = int(under[:, node].sum()), int(measured.node_best_latent[node])
        if not 0 < n_node < n:
            continue
        n_both = int((fires[:, latent] & under[:, node]).sum()) if latent >= 0 else 0
        score = 2 * n_both / (int(fires[:, latent].sum()) + n_node) if latent >= 0 else 0.0
        floor = 2 * n_node / (n + n_node)
        f1[node] = max(0.0, (score - floor) / (1 - floor))
    resnik = resnik_similarity(taxonomy)
    similarity = resnik.bits[resnik.code]
    present = np.flatnonzero(has_label.any(axis=0) & keep)
    among = [similarity[a, b] for a, b in combinations(present, 2)]
    mu0 = np.mean(among) if len(present) >= 3 else np.nan
    coherence, weights, purity, lch = [], [], [], []
    chance = measured.chance
    n_with_images = has_label.any(axis=0).astype(int) @ taxonomy.closure.toarray()
    for latent in range(dense.shape[1]):
        top = [image for image in measured.top_images[latent] if image >= 0 and alive[image]]
        pairs = [
            similarity[a, b]
            for one, other in combinations(top, 2)
            for a in np.flatnonzero(left[one])
            for b in np.flatnonzero(left[other])
            if a != b
        ]
        if pairs:
            coherence.append(np.mean(pairs) - mu0)
            weights.append(int(fires[:, latent].sum()))
        if len(top) > 1:
            both = [
                (a, b)
                for i, j in permutations(top, 2)
                for a in np.flatnonzero(left[i])
                for b in np.flatnonzero(left[j])
            ]
            purity.append(np.mean([a == b for a, b in both]))
        classes = [c for c in measured.top_classes[[latent]].indices if keep[c]]
        if chance is not None and (dense[:, latent] > 0).sum() >= 16 and len(classes) > 1:
            node = taxonomy.lch(classes)
            lch.append(chance.lch_bits[len(classes) - 1] - np.log2(taxonomy.leaf_counts[node]))
    return {
        "f1_adjusted_mean": _mean(f1.values()),
        "f1_adjusted_inner_mean": _mean(score for node, score in f1.items() if n_with_images[node] >= 3),
        "coherence_excess": _mean(coherence),
        "coherence_excess_weighted": np.average(coherence, weights=weights) if coherence else np.nan,
        "purity_mean": _mean(purity),
        "lch_excess_mean": _mean(lch),
    }


def _counted(has_label, taxonomy):
    """One node per set of images, the deepest, then the first."""
    under = (has_label.astype(int) @ taxonomy.closure.toarray()) > 0
    best = {}
    for node in sorted(range(under.shape[1]), key=lambda v: (-taxonomy.depth[v], v)):
        if 0 < under[:, node].sum() < len(under):
            best.setdefault(under[:, node].tobytes(), node)
    return list(best.values())


@examples(40)
@given(st.integers(0, 2**20), st.booleans(), st.booleans())
def test_replicates_equal_a_recount_of_the_images_that_are_left(random_case, seed, several, held_out):
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    n_classes = len(case.taxonomy.classes)
    labels = label_matrix(case.labels, n_classes, rng) if several else case.labels
    select = rng.random(len(labels if not several else case.labels)) < 0.5 if held_out else None
    if held_out and (select.all() or not select.any()):
        select[0] = not select[0]
    measured = measure(case.dense, labels, case.taxonomy, select=select)
    scored = np.ones(len(case.dense), bool) if select is None else ~select
    has_label = np.zeros((len(case.dense), n_classes), bool)
    if several:
        has_label = labels.toarray()
    else:
        has_label[np.arange(len(case.dense)), labels] = True  # type: ignore[index]
    has_label, dense = has_label[scored], case.dense[scored]
    keep = rng.random((4, n_classes)) < 0.7
    found = replicate_headlines(measured, keep)
    assert set(found) == METRICS
    counted = _counted(has_label, case.taxonomy)
    for row, kept in enumerate([np.ones(n_classes, bool), *keep]):
        expected = _recount(dense, has_label, case.taxonomy, measured, counted, kept)
        for metric, quantity in found.items():
            value = quantity.value if row == 0 else quantity.replicates[row - 1]
            np.testing.assert_allclose(value, expected[metric], atol=1e-12, err_msg=f"{metric}, row {row}")


def test_the_classes_that_are_kept_depend_on_the_seed_and_the_classes_alone(planted_case):
    taxonomy = planted_case.taxonomy
    keep = kept_classes(taxonomy, 100, seed=3)
    np.testing.assert_array_equal(keep, kept_classes(taxonomy, 100, seed=3))
    np.testing.assert_array_equal(keep[:10], kept_classes(taxonomy, 10, seed=3))
    assert (keep.sum(axis=1) == 27 - 5).all()  # 20 % of 27, rounded
    assert len(np.unique(keep, axis=0)) > 95
    assert (kept_classes(taxonomy, 100, seed=4) != keep).any()


def test_replicates_of_a_permuted_labelling_delete_the_same_images(planted_case):
    """A shuffled taxonomy moves class l to the place p[l], and with it what is kept."""
    case = planted_case
    places = np.random.default_rng(1).permutation(27)
    keep = kept_classes(case.taxonomy, 5, seed=0)
    moved = np.empty_like(keep)
    moved[:, places] = keep
    purity = [
        replicate_headlines(measure(case.dense, labels, case.taxonomy), rows)["purity_mean"].replicates
        for labels, rows in ((case.labels, keep), (places[case.labels], moved))
    ]
    np.testing.assert_allclose(purity[0], purity[1], atol=1e-12)


def test_the_work_can_be_stopped(planted_case):
    def stop():
        raise InterruptedError

    measured = measure(planted_case.dense, planted_case.labels, planted_case.taxonomy)
    with pytest.raises(InterruptedError):
        replicate_headlines(measured, kept_classes(planted_case.taxonomy, 2, 0), check=stop)


def test_dead_latents_and_a_single_class_leave_numbers_undefined(make_taxonomy):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r"), ("c", "r")], ["a", "b", "c"])
    measured = measure(np.zeros((6, 2), np.float32), np.array([0, 0, 1, 1, 2, 2]), taxonomy)
    found = replicate_headlines(measured, np.array([[True, False, False]]))
    assert np.isnan(found["coherence_excess"].value)
    assert found["coherence_excess"].n == 0
    assert found["f1_adjusted_mean"].n == 3
    assert np.isnan(found["f1_adjusted_mean"].replicates[0]), "the only class left is every image"
    assert sp.issparse(measured.associated)
