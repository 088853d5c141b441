"""Shuffled taxonomies against full analyses of permuted labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.hierarchy.resampling.measuring import label_matrix, measure
from tests.hierarchy.scoring import score_one

import hsae.hierarchy.resampling.shuffled_nodes as shuffled_nodes
from hsae.hierarchy.controls.shuffles import shuffle_taxonomy
from hsae.hierarchy.resampling.deleted_classes import replicate_headlines
from hsae.hierarchy.resampling.resampled import LAYER_NUMBERS
from hsae.hierarchy.resampling.tree_shuffles import quantiles, shuffle_headlines
from hsae.hierarchy.scores.adjusted_f1 import node_adjusted_f1


def _mean(values):
    return np.mean(values) if len(values) else np.nan


@examples(25)
@given(st.integers(0, 2**20), st.booleans())
def test_every_shuffle_equals_a_full_analysis_of_the_permuted_labels(random_case, seed, several):
    case = random_case(seed)
    n_classes = len(case.taxonomy.classes)
    labels = case.labels
    if several:
        labels = label_matrix(labels, n_classes, np.random.default_rng(seed))
    measured = measure(case.dense, labels, case.taxonomy, seed=seed % 1000)
    found = shuffle_headlines(measured, 3)
    counted = np.flatnonzero(measured.nodes.counts)
    one, two, inner = (stratum[counted] for stratum in measured.nodes.strata())
    for i in range(3):
        shuffle_seed = measured.seed + i
        result = score_one(case.z, labels, case.taxonomy, basis="shuffled_taxonomy", seed=shuffle_seed)
        moved = shuffle_taxonomy(measured.labels, n_classes, shuffle_seed)
        again = measure(case.dense, moved, case.taxonomy, seed=measured.seed)
        best = np.zeros(len(case.taxonomy.synsets))
        np.maximum.at(best, result.nodes.node, np.nan_to_num(result.nodes.f1))
        n_node = again.score.closure(case.taxonomy).T.astype(float) @ again.score.class_sizes
        adjusted = node_adjusted_f1(best, n_node, again.score.n_images)[counted]  # type: ignore[arg-type]
        defined = ~np.isnan(adjusted)
        again_now = replicate_headlines(again, np.empty((0, n_classes), bool))
        expected = {
            "f1_adjusted_mean": _mean(adjusted[defined]),
            "f1_adjusted_inner_mean": _mean(adjusted[defined & inner]),
            "best_f1_adjusted_single_mean": _mean(adjusted[defined & one]),
            "best_f1_adjusted_pair_mean": _mean(adjusted[defined & two]),
            "best_f1_mean": _mean(best[counted][defined]),
            "best_f1_inner_mean": _mean(best[counted][defined & inner]),
            "share_nodes_f1": _mean(best[counted][defined] >= 0.5),
            "lch_height_mean": result.layer.lch_height_mean,
            "coverage_mean": result.layer.coverage_mean,
            "coherence_excess": again_now["coherence_excess"].value,
            "coherence_excess_weighted": again_now["coherence_excess_weighted"].value,
            "lch_excess_mean": again_now["lch_excess_mean"].value,
        }
        for metric, value in expected.items():
            np.testing.assert_allclose(found[metric].shuffled[i], value, atol=1e-12, err_msg=metric)  # type: ignore[index]


@examples(15)
@given(st.integers(0, 2**20), st.booleans())
def test_the_value_is_that_of_the_replicates(random_case, seed, held_out):
    case = random_case(seed)
    select = np.arange(len(case.labels)) % 2 == 0 if held_out else None
    measured = measure(case.dense, case.labels, case.taxonomy, select=select)
    replicates = replicate_headlines(measured, np.empty((0, len(case.taxonomy.classes)), bool))
    for metric, trees in shuffle_headlines(measured, 1).items():
        if metric in replicates:
            np.testing.assert_allclose(trees.value, replicates[metric].value, atol=1e-12, err_msg=metric)


def test_without_a_shuffle_the_raw_numbers_are_those_of_the_layer(planted_case):
    case = planted_case
    layer = score_one(case.z, case.labels, case.taxonomy, basis="sae").layer
    found = shuffle_headlines(measure(case.dense, case.labels, case.taxonomy), 0)
    of_layer = {
        "best_f1_adjusted_single_mean": layer.best_f1_adjusted_single_mean,
        "best_f1_adjusted_pair_mean": layer.best_f1_adjusted_pair_mean,
        "best_f1_mean": layer.best_f1_mean,
        "best_f1_inner_mean": layer.best_f1_inner_mean,
        "share_nodes_f1": layer.f1_node_share,
    }
    assert {name: found[name].value for name in LAYER_NUMBERS} == pytest.approx(of_layer, abs=1e-12, nan_ok=True)


def test_blocks_of_latents_change_nothing(planted_case, monkeypatch):
    measured = measure(planted_case.dense, planted_case.labels, planted_case.taxonomy)
    whole = shuffle_headlines(measured, 4)
    monkeypatch.setattr(shuffled_nodes, "_BLOCK_ENTRIES", 7)
    for metric, trees in shuffle_headlines(measured, 4).items():
        np.testing.assert_array_equal(trees.shuffled, whole[metric].shuffled)


def test_planted_latents_follow_the_tree_and_shuffled_labels_do_not(planted_case):
    case = planted_case
    followed = shuffle_headlines(measure(case.dense, case.labels, case.taxonomy), 19)
    for metric in ("f1_adjusted_inner_mean", "coherence_excess", "lch_excess_mean", "lch_height_mean", "best_f1_mean"):
        assert followed[metric].p == pytest.approx(1 / 20), metric
    labels = np.random.default_rng(0).permutation(case.labels)
    chance = shuffle_headlines(measure(case.dense, labels, case.taxonomy), 19)
    assert min(trees.p for trees in chance.values()) > 0.01


def test_undefined_numbers_have_no_p(make_taxonomy):
    taxonomy = make_taxonomy([("a", "r"), ("b", "r"), ("c", "r")], ["a", "b", "c"])
    found = shuffle_headlines(measure(np.zeros((3, 1), np.float32), np.arange(3), taxonomy), 2)
    assert np.isnan(found["coherence_excess"].p)
    assert np.isnan(found["lch_height_mean"].p)
    assert quantiles(found["lch_height_mean"].shuffled) == pytest.approx((np.nan,) * 4, nan_ok=True)


def test_the_summary_of_shuffles():
    assert quantiles(np.arange(5.0)) == pytest.approx((2, np.sqrt(2.5), 0.1, 3.9))
    assert quantiles(np.ones(1))[:1] == (1.0,)
