"""Planted truth: what carries a node is found to carry it, what is merely correlated with it is not."""

import math

import numpy as np
import pytest
import torch
from scipy import sparse
from tests.interventions.planted import NODE, PLACES, ROWS, UNUSED, UsesAllButOne
from tests.relevancy.small_backbones import random_sae

from hsae.interventions.choice import Attributed, LatentUse, attribution, best_latents
from hsae.interventions.controls import projection
from hsae.interventions.edits import Ablation, LatentEdit, ThroughSae, TokenPlaces
from hsae.interventions.effects import Effect, Readings, Tree, distances_from, loss_recovered
from hsae.interventions.figures import Target, figures
from hsae.interventions.measure import Planned, Reader, measure
from hsae.interventions.passes import Intervention, LayerEdit
from hsae.interventions.readouts import LinearReadout, Reading, ReadRows


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


class Mixes:
    """A block that is not linear: every token gets the tanh of a mixture of all."""

    def __init__(self, rng, n_tokens, d_model):
        self.mixture = torch.randn(n_tokens, n_tokens, generator=rng)
        self.weight = torch.randn(d_model, d_model, generator=rng) / d_model**0.5

    def resume(self, stream, start, stop):
        assert (start, stop) == (0, 1)
        return stream + torch.tanh(self.mixture.to(stream) @ stream @ self.weight.to(stream))


def slow_attribution(sae, block, probe, stream, places, inside):
    """Every latent of every row is moved a little both ways: its activation times what the log-odds gain for it."""

    def log_odds(image):
        final = block.resume(image[None], 0, 1)[0]
        row = final[0] if probe.rows.has_class_token else final[1:].mean(0)
        p = torch.softmax(row @ probe.weight + probe.intercept, 0)
        return float(p[inside].sum().log() - p[~inside].sum().log())

    found, little = np.zeros(sae.n_latents), 1e-4
    for image in stream.double():
        rows = [list(places.numbers)] if places.as_mean else [[number] for number in places.numbers]
        for tokens in rows:
            z = sae.encode(image[tokens].mean(0, keepdim=True).float())[0]
            for latent in np.flatnonzero(z.numpy()).tolist():
                change = little * sae.decoder_weight[latent].double() / float(sae.input_scale)
                odds = []
                for sign in (1, -1):
                    moved = image.clone()
                    moved[tokens] += sign * change
                    odds.append(log_odds(moved))
                found[latent] += float(z[latent]) * (odds[0] - odds[1]) / (2 * little)
    return found


@pytest.mark.parametrize("kind", ["relu", "topk"])
@pytest.mark.parametrize(
    ("places", "rows"),
    [
        (TokenPlaces((0, 2)), ReadRows(1, has_class_token=True)),
        (TokenPlaces((1, 2, 3)), ReadRows(1, has_class_token=False)),
        (TokenPlaces((1, 2, 3), as_mean=True), ReadRows(1, has_class_token=True)),
    ],
)
def test_attribution_is_what_small_changes_of_each_latent_do(kind, places, rows):
    rng = torch.Generator().manual_seed(0)
    sae, block = random_sae(kind), Mixes(rng, 4, 24)
    weight, intercept = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((24, 5), (5,)))
    probe = LinearReadout(rows, weight, intercept)
    stream = torch.randn(3, 4, 24, generator=rng)
    nodes = [np.array(classes, np.bool_) for classes in ((1, 1, 0, 0, 0), (0, 0, 0, 0, 1))]
    batches = [(block, stream[:2]), (block, stream[2:])]
    found = attribution(Attributed(sae, 0, 1, places, probe), batches, nodes)
    for inside, of_node in zip(nodes, found, strict=True):
        expected = slow_attribution(sae, block, probe, stream, places, torch.from_numpy(inside))
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(of_node, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


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


def slow_cross_entropy(model, row_of):
    """Image by image in plain Python: the edited class token, the block, the probe, and -log of the softmax."""
    total = 0.0
    for stream, label in zip(model.stream, model.labels, strict=True):
        changed = stream.clone()
        changed[0] = row_of(stream[0])
        final = UsesAllButOne().resume(changed[None], 0, 1)[0, 0].double()
        logits = [
            float(final @ weight + bias)
            for weight, bias in zip(model.probe.weight.T, model.probe.intercept, strict=True)
        ]
        total += math.log(math.fsum(math.exp(one - logits[label]) for one in logits))
    return total / len(model.labels)


def test_the_loss_recovered_is_that_of_a_loop_over_images(model):
    sae, mean = model.sae, model.stream[:, 0].mean(0)
    replaced = [lambda x: x, lambda x: sae.decode(sae.encode(x[None]))[0], lambda x: mean, torch.zeros_like]
    loss, through, of_mean, of_zero = (slow_cross_entropy(model, row_of) for row_of in replaced)
    edits = [ThroughSae(sae), Ablation(mean), Ablation(torch.zeros_like(mean))]
    found = measured(model, [plan(model, edit) for edit in edits])
    losses = [outcome.readings[0].cross_entropy for outcome in (found.before, *found.after)]
    assert losses == pytest.approx([loss, through, of_mean, of_zero], rel=1e-5)
    assert loss < through < min(of_mean, of_zero)
    assert of_mean != pytest.approx(of_zero, rel=0.01)
    for ablated, again in ((of_mean, losses[2]), (of_zero, losses[3])):
        expected = (ablated - through) / (ablated - loss)
        assert 0 < expected < 1
        assert loss_recovered(loss, losses[1], again) == pytest.approx(expected, rel=1e-4)


def test_the_loss_recovered_is_one_unedited_and_zero_ablated():
    assert loss_recovered(0.5, 0.5, 2.0) == 1
    assert loss_recovered(0.5, 2.0, 2.0) == 0
    assert loss_recovered(0.5, 3.5, 2.0) == -1
    assert math.isnan(loss_recovered(0.5, 0.4, 0.5))  # the ablation costs nothing
    assert math.isnan(loss_recovered(float("nan"), float("nan"), float("nan")))


def test_images_of_classes_that_a_readout_does_not_know_have_no_cross_entropy():
    logits = np.array([[0.0, 1.0, -np.inf], [2.0, 0.0, -np.inf], [0.0, 0.0, -np.inf]])
    tree = Tree(np.eye(3), np.ones(3, np.bool_))
    labels = np.array([1, 0, 2])
    effect = Effect(())
    effect.add(Reading(logits.argmax(1), logits), labels, tree)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert Readings.of(effect, labels, tree).cross_entropy == pytest.approx(expected)
    vote = Effect(())
    vote.add(Reading(logits.argmax(1), None), labels, tree)
    assert math.isnan(Readings.of(vote, labels, tree).cross_entropy)
