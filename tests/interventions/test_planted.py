"""Planted truth: what carries a node is found to carry it, what is merely correlated with it is not."""

import numpy as np
import pytest
import torch
from scipy import sparse
from tests.interventions.planted import NODE, PLACES, ROWS, UNUSED

from hsae.interventions.choice import Attributed, LatentUse, attribution, best_latents
from hsae.interventions.controls import projection
from hsae.interventions.edits import LatentEdit, ThroughSae
from hsae.interventions.effects import distances_from
from hsae.interventions.figures import Target, figures
from hsae.interventions.measure import Planned, Reader, measure
from hsae.interventions.passes import Intervention, LayerEdit


def plan(model, edit, node="bird"):
    return Planned(Intervention((LayerEdit(0, PLACES, edit),)), model.node(node))


def latent_edit(model, latent, kind="scale", value=0.0):
    return LatentEdit(model.sae, torch.tensor([latent]), kind, torch.tensor([value]))


def measured(model, planned):
    return measure(model.batches(), planned, Reader(0, 1, ROWS, (model.probe,), model.tree))


def figures_of(model, edits, node="bird"):
    found = measured(model, [plan(model, edit, node) for edit in edits])
    distance = distances_from(model.taxonomy, model.node(node))[model.taxonomy.classes]
    target = Target(model.node(node), distance, found.labels)
    before = found.before.readings[0]
    return [figures(before, after.readings[0], target, model.tree, n_shuffles=99, seed=0) for after in found.after]


def test_the_direction_that_carries_a_node_has_specificity_one(model):
    (one,) = figures_of(model, [latent_edit(model, NODE)])
    assert list(one.inside) == pytest.approx([1, 0], abs=0.02)
    assert one.outside == (1.0, 1.0)
    assert one.specificity.value >= 0.98
    assert one.specificity.low >= 0.9
    assert [one.forgetting, one.retention] == pytest.approx([1, 1], abs=0.02)
    assert (one.n_inside, one.n_outside) == (2, 4)


def test_a_correlated_latent_that_nothing_reads_has_none(model):
    inside = model.tree.inside[model.labels, model.node("bird")]
    z = model.sae.encode(model.stream[:, 0])
    assert np.corrcoef(z[:, UNUSED], inside)[0, 1] > 0.98
    (one,) = figures_of(model, [latent_edit(model, UNUSED)])
    for mean in (one.specificity, one.specificity_log_odds):
        assert mean.low <= 0 <= mean.high
        assert mean.value == pytest.approx(0, abs=1e-3)
    assert (one.forgetting, one.retention) == (0.0, 1.0)


def test_steering_is_monotone_in_the_dose(model):
    doses = [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0]
    found = measured(model, [plan(model, latent_edit(model, NODE, "add", dose)) for dose in doses])
    odds = np.stack([after.readings[0].target_log_odds[model.node("bird")] for after in found.after])
    assert (np.diff(odds, axis=0) > 0).all()
    share = [(model.tree.inside[after.readings[0].predicted, model.node("bird")]).mean() for after in found.after]
    assert share == sorted(share)
    assert (share[0], share[-1]) == (0, 1)
    # Down by scaling, too.
    found = measured(model, [plan(model, latent_edit(model, NODE, "scale", gamma)) for gamma in (0.0, 0.5, 1.0, 1.5)])
    means = [after.readings[0].node_log_odds[model.node("bird")] for after in found.after]
    assert means == sorted(means)


def test_gamma_one_changes_nothing_to_the_bit(model):
    found = measured(model, [plan(model, latent_edit(model, NODE, "scale", 1.0))])
    before, after = found.before, found.after[0]
    assert np.array_equal(before.readings[0].own_log_odds, after.readings[0].own_log_odds)
    assert np.array_equal(before.readings[0].node_log_odds, after.readings[0].node_log_odds, equal_nan=True)
    assert (after.moved == 0).all()
    (one,) = figures_of(model, [latent_edit(model, NODE, "scale", 1.0)])
    assert (one.specificity.value, one.forgetting, one.retention) == (0, 0, 1)


def test_what_is_chosen_is_what_carries_the_node(model):
    """Selectivity cannot tell the unused latent from the one that is read; attribution can."""
    z = sparse.csr_array(model.sae.encode(model.stream[:, 0]).numpy())
    inside_classes = model.tree.inside[:, model.node("bird")] > 0
    use = LatentUse.of(z, inside_classes[model.labels])
    by_selectivity = best_latents(use.selectivity(), use, "bird", n_latents=2, max_density=1.0)
    assert by_selectivity.tolist() == [NODE, UNUSED]
    attributed = Attributed(model.sae, 0, 1, PLACES, model.probe)
    of_birds = [(b.blocks, b.stream[torch.from_numpy(inside_classes[b.labels])]) for b in model.batches(10_000)]
    (scores,) = attribution(attributed, of_birds, [inside_classes])
    assert scores.argmax() == NODE
    assert scores[UNUSED] == 0


def test_controls_that_know_the_labels_take_the_node_away(model):
    x = model.stream[:, 0].numpy()
    inside = model.tree.inside[model.labels, model.node("bird")] > 0
    edits = [
        projection(control, x, inside, 1, "bird").edit(0.0, torch.device("cpu"))
        for control in ("probe", "class_mean", "leace")
    ]
    for one in figures_of(model, edits):
        assert one.forgetting > 0.2
        assert one.specificity_log_odds.value > 2
    kept = [
        projection(control, x, inside, 1, "bird").edit(1.0, torch.device("cpu"))
        for control in ("neurons", "probe", "class_mean", "leace")
    ]
    for one in figures_of(model, kept):
        assert one.specificity.value == 0


def test_the_curve_is_of_the_classes_at_each_distance(model):
    """One of two tools loses the direction that tells it apart; nothing else reads that direction."""
    one, through = figures_of(model, [latent_edit(model, 4), ThroughSae(model.sae)], node="tool")
    assert [(point.distance, point.n_classes) for point in one.curve] == [(0, 2), (4, 4)]
    assert one.curve[0].accuracy.value > 0.1
    assert one.curve[0].log_odds.value > 1
    assert one.curve[1].accuracy.value == 0
    assert one.curve[1].log_odds.value == pytest.approx(0, abs=0.1)
    assert through.retention > 0.9
