"""Which bases are scored, how the controls compare with planted latents, and input at its limits."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from tests.hierarchy.all_bases import BASES, CONTROLS, N_RANDOM, assert_same, own_numbers, run, untrained
from tests.hierarchy.scoring import score_one

from hsae.errors import JobCancelledError, UserError
from hsae.hierarchy.scores.node_scores import iter_node_scores


def test_planted_latents_are_labelled_with_their_nodes(planted_case):
    results = run(planted_case)
    assert [result.basis for result in results] == BASES
    assert [result.seed for result in results] == [0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 1, 0, 1]
    sae = results[0]
    np.testing.assert_array_equal(sae.latents.label, np.arange(len(planted_case.taxonomy.synsets)))
    assert (sae.latents.label_f1 > 0.8).all()
    assert sae.layer.f1_node_share == 1
    assert sae.layer.q_node_share == 1
    assert sae.layer.n_nodes == 27 + 9 + 3
    assert sae.layer.n_inner_nodes == 9 + 3
    assert sae.layer.by_height == {0: (27, 27, 27), 1: (9, 9, 9), 2: (3, 3, 3)}


def test_controls_score_lower_than_planted_latents(planted_case):
    sae, *others = run(planted_case, n_shuffles=3)
    bases, shuffled = others[: len(CONTROLS)], others[len(CONTROLS) :]
    for result in bases:
        # Exemplars and means are of the scored images themselves, and the ceiling knows their labels.
        share = {"exemplar": 0.95, "kmeans": 0.95, "class_mean": 1.1}.get(result.basis, 0.8)
        assert result.layer.best_f1_mean < share * sae.layer.best_f1_mean, result.basis
    for result in shuffled:
        assert result.layer.best_f1_inner_mean < 0.8 * sae.layer.best_f1_inner_mean
        assert result.layer.lch_height_mean > sae.layer.lch_height_mean
        leaves = result.layer.by_height[0]
        if result.basis == "shuffled_labels":
            assert result.layer.best_f1_mean < 0.5 * sae.layer.best_f1_mean
            assert leaves.n_f1 == 0
        else:
            assert leaves == sae.layer.by_height[0]


def test_the_control_bases_fire_like_the_sae_and_come_with_their_dense_auroc(planted_case):
    sae, *others = run(planted_case)
    assert np.isnan(sae.nodes.auroc_dense).all()
    n_latents, d_model = planted_case.z.shape[1], planted_case.neurons.shape[1]
    n_columns = dict.fromkeys(CONTROLS, n_latents) | {"neuron": 2 * d_model, "pca": 2 * d_model, "class_mean": 39}
    densities = np.sort(sae.latents.density)[::-1]
    for result in others[: len(CONTROLS)]:
        nodes = result.nodes
        assert result.layer.n_latents == n_columns[result.basis]
        assert result.layer.n_images == len(planted_case.labels)
        is_dense = result.seed == 0
        assert (result.latents is not None) == is_dense
        is_defined = ~np.isnan(nodes.auroc) & nodes.is_node_best
        assert is_defined.any()
        assert (~np.isnan(nodes.auroc_dense) == (is_defined if is_dense else False)).all()
        if is_dense:
            assert (nodes.auroc_dense[is_defined] != nodes.auroc[is_defined]).any()
        if is_dense and n_columns[result.basis] == n_latents and result.basis != "untrained":
            # All images are different: every column fires on exactly as many as the latent of its rank.
            np.testing.assert_array_equal(np.sort(result.latents.density)[::-1], densities)
    for result in others[len(CONTROLS) :]:
        assert np.isnan(result.nodes.auroc_dense).all()


def test_further_draws_have_no_rows_of_their_columns(planted_case):
    """They are stored without them: nothing may name a column that is not there."""
    draws = [result for result in run(planted_case) if result.basis == "random"]
    assert [draw.seed for draw in draws] == list(range(N_RANDOM))
    first, *repeats = draws
    assert len(first.edges.parent) > 0
    for draw in repeats:
        assert draw.latents is None
        assert len(draw.edges.parent) == len(draw.families.parent) == 0
        assert draw.layer.best_f1_mean != first.layer.best_f1_mean
        assert abs(draw.layer.best_f1_mean - first.layer.best_f1_mean) < 0.1
        assert list(draw.places) == ["topk"]
    alone = [result for result in run(planted_case, seed=1) if result.basis == "random"]
    # The random classes that LCH excess is compared with have the analysis' own seed.
    left, right = (dataclasses.replace(own_numbers(x.layer), lch_excess_mean=0.0) for x in (alone[0], draws[1]))
    assert repr(left) == repr(right), "the seed of a draw is the analysis' plus its number"


def test_controls_can_be_chosen_in_any_order(planted_case):
    everything = {result.basis: result for result in run(planted_case, n_shuffles=0)}
    some = run(planted_case, controls=("exemplar", "neuron"), n_shuffles=0)
    assert [result.basis for result in some] == ["sae", "neuron", "exemplar"]
    assert_same(some, [everything[result.basis] for result in some])


def test_untrained_latents_that_are_missing_or_of_other_images_are_refused(planted_case):
    with pytest.raises(UserError, match="untrained needs .* got none"):
        run(planted_case, untrained=None)
    with pytest.raises(UserError, match="same 324 images, got those of 323"):
        run(planted_case, untrained=untrained(planted_case)[1:])


def test_an_sae_without_a_living_latent(planted_case):
    dead = dataclasses.replace(planted_case, z=sp.csr_array(planted_case.z.shape, dtype=np.float32))
    sae, *others = run(dead)
    assert len(sae.nodes.latent) == 0
    assert sae.latents.is_dead.all()
    assert (sae.latents.label == -1).all()
    assert sae.layer.dead_share == 1
    assert sae.layer.f1_node_share == sae.layer.best_f1_mean == 0
    assert np.isnan(sae.layer.lch_height_mean)
    for result in others:
        assert result.layer.l0_mean == 0, "a latent that never fires has no density to compare at"
        assert len(result.nodes.latent) == 0


def test_images_of_one_class_only(planted_case):
    """Every node holds all images or none: there is nothing to test, but nothing fails."""
    alone = dataclasses.replace(planted_case, labels=np.zeros_like(planted_case.labels))
    sae = run(alone)[0]
    assert sae.layer.n_nodes == 0
    assert np.isnan(sae.layer.f1_node_share)
    assert np.isnan(sae.nodes.q_node).all()
    assert set(sae.latents.lch.tolist()) == {int(alone.taxonomy.classes[0])}
    assert (sae.latents.label == alone.taxonomy.classes[0]).all()


def test_progress_reaches_its_end_and_can_stop_the_analysis(planted_case):
    seen = []
    run(planted_case, progress=lambda n_done, n_total: seen.append((n_done, n_total)))
    n_total = len(BASES) * planted_case.z.shape[1]
    assert seen[-1] == (n_total, n_total)
    assert seen == sorted(seen)
    assert len(seen) > len(set(seen))  # also in between, so that a job can stop there

    def cancel(n_done, _):
        if n_done > planted_case.z.shape[1]:
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        run(planted_case, progress=cancel)


def test_one_basis_alone_equals_the_same_among_all(planted_case):
    results = run(planted_case, seed=5)
    alone = score_one(
        planted_case.z,
        planted_case.labels,
        planted_case.taxonomy,
        basis="shuffled_taxonomy",
        seed=6,
        embeddings=planted_case.neurons,
        cluster_seed=5,
    )
    assert_same([results[-1]], [alone])


def test_a_threshold_moves_the_firing_rule_but_not_the_auroc(planted_case):
    low, high = (run(planted_case, threshold=threshold)[0] for threshold in (0.0, 2.0))
    assert high.layer.l0_mean < low.layer.l0_mean
    scores = [
        np.concatenate([block.auroc for _, block in iter_node_scores(r.class_sums, planted_case.taxonomy.closure)])
        for r in (low, high)
    ]
    np.testing.assert_array_equal(*scores)  # type: ignore[arg-type]


def test_input_that_does_not_fit_is_refused(planted_case):
    with pytest.raises(UserError, match="the same images"):
        run(dataclasses.replace(planted_case, neurons=planted_case.neurons[1:]))
    with pytest.raises(UserError, match="one label per image"):
        run(dataclasses.replace(planted_case, labels=planted_case.labels[1:]))
    broken = planted_case.z.copy()
    broken.data[0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        run(dataclasses.replace(planted_case, z=broken))
