"""Latents one by one on the planted model: used or merely correlated, and steering or not."""

import numpy as np
import pytest
import torch
from tests.interventions.planted import D_MODEL, FIRST, NODE, PLACES, ROWS, UNUSED, UsesAllButOne

from hsae.interventions.alone.label_effects import chances, is_used, label_effect, q_values
from hsae.interventions.alone.steerability import (
    driven_directions,
    driven_edits,
    driven_neurons,
    share_of,
    shifts,
)
from hsae.interventions.edits import LatentEdit, VisitedRows
from hsae.interventions.effects import distances_from
from hsae.interventions.figures import Target
from hsae.interventions.measure import Planned, Reader, measure
from hsae.interventions.passes import Intervention, LayerEdit, outcomes

N_FLIPS = 199


def reader_of(model):
    return Reader(0, 1, ROWS, (model.probe,), model.tree)


def alone(edit):
    return Intervention((LayerEdit(0, PLACES, edit),), only_changed=True)


def latent_edit(model, latent, kind="scale", value=0.0):
    return LatentEdit(model.sae, torch.tensor([latent]), kind, torch.tensor([value]))


@pytest.fixture(scope="module")
def ablated(model):
    """Every latent is taken away alone; bird, hen and fish are looked at."""
    nodes = tuple(model.node(name) for name in ("bird", "hen", "fish"))
    planned = [Planned(alone(latent_edit(model, latent)), None, also=nodes) for latent in range(D_MODEL)]
    return measure(model.batches(), planned, reader_of(model))


def effect_of(model, ablated, latent, name):
    node = model.node(name)
    target = Target(node, distances_from(model.taxonomy, node)[model.taxonomy.classes], ablated.labels)
    before, after = ablated.before.readings[0], ablated.after[latent].readings[0]
    return label_effect(before, after, target, model.tree, n_flips=N_FLIPS, seed=0)


def test_a_latent_that_carries_its_label_is_used_and_one_that_goes_with_it_is_not(model, ablated):
    used, unused, other = (effect_of(model, ablated, latent, "bird") for latent in (NODE, UNUSED, FIRST))
    assert used.in_log_odds
    assert used.effect.low > 1
    assert used.accuracy.value == pytest.approx(1, abs=0.02)
    assert used.p == 1 / (1 + N_FLIPS)
    # No reader sees it: whatever is left is rounding, a thousandth of the effect of the other.
    assert unused.effect.value == pytest.approx(0, abs=1e-3)
    assert unused.accuracy.value == 0
    draws = [[effect_of(model, ablated, latent, "bird").effect.value for latent in range(4, D_MODEL)]] * 2
    chance, _ = chances(draws)
    assert chance.n_draws == D_MODEL - 4
    assert chance.low <= chance.own <= chance.high
    q = q_values([used.p, unused.p])
    assert is_used(used.effect.value, q[0], chance)
    assert not is_used(unused.effect.value, q[1], chance)
    assert abs(other.effect.value) < used.effect.value / 2


def test_the_effect_and_its_shares_by_the_definition(model, ablated):
    """One class at a time and image by image, without any array."""
    node = model.node("bird")
    before, after = ablated.before.readings[0], ablated.after[FIRST].readings[0]
    drops: dict[int, list[float]] = {}
    for image, label in enumerate(ablated.labels.tolist()):
        inside = model.tree.inside[label, node] > 0
        odds = [one.target_log_odds[node] if inside else one.own_log_odds for one in (before, after)]
        drops.setdefault(label, []).append(float(odds[0][image] - odds[1][image]))
    inside = [values for label, values in drops.items() if model.tree.inside[label, node] > 0]
    outside = [sum(values) / len(values) for label, values in drops.items() if model.tree.inside[label, node] == 0]
    elsewhere = sum(outside) / len(outside)
    shares = [(drop - elsewhere) / len(values) / len(inside) for values in inside for drop in values]
    found = effect_of(model, ablated, FIRST, "bird")
    assert found.effect.value == pytest.approx(sum(shares), abs=1e-12)
    assert found.n_images == len(shares)
    rng = np.random.Generator(np.random.PCG64(0))
    flips = rng.integers(0, 2, (N_FLIPS, len(shares))) * 2.0 - 1.0
    as_far = sum(abs(sum(s * d for s, d in zip(row, shares, strict=True))) >= abs(sum(shares)) for row in flips)
    assert found.p == (1 + as_far) / (1 + N_FLIPS)


def test_only_images_that_change_have_a_pass_of_their_own(model):
    """The others keep the bits of the unedited outcome; all agree with the pass of the whole batch."""
    sizes = []

    class Counted(UsesAllButOne):
        def resume(self, stream, start, stop):
            sizes.append(len(stream))
            return super().resume(stream, start, stop)

    stream = model.stream[:64]
    plain = UsesAllButOne().resume(stream, 0, 1)
    edit = LayerEdit(0, PLACES, latent_edit(model, NODE))
    interventions = [Intervention((edit,), only_changed=True), Intervention((edit,))]
    some, all_ = outcomes(Counted(), 0, stream, interventions, 1, plain=plain)
    fires = model.sae.encode(stream[:, 0])[:, NODE] > 0
    assert 0 < fires.sum() < 64
    assert sizes == [int(fires.sum()), 64]
    assert torch.equal(some[~fires], plain[~fires])
    assert torch.allclose(some, all_, atol=1e-6)
    silent = Intervention((LayerEdit(0, PLACES, latent_edit(model, NODE, "scale", 1.0)),), only_changed=True)
    (same,) = outcomes(Counted(), 0, stream, [silent], 1, plain=plain)
    assert torch.equal(same, plain)
    assert len(sizes) == 2


def test_a_label_of_one_class_has_an_effect_without_an_interval(model, ablated):
    found = effect_of(model, ablated, FIRST, "hen")
    assert found.effect.value > 1
    assert np.isnan(found.effect.low)
    assert found.p < 0.05


def test_q_is_over_the_latents_that_were_tested():
    q = q_values([0.01, 0.04, float("nan"), 0.03])
    assert q[[0, 1, 3]] == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(q[2])
    assert q_values([]).tolist() == []
    (none,) = chances([[]])
    assert (none.n_draws, np.isnan(none.high)) == (0, True)
    assert not is_used(9.0, 0.0, none)


def test_shifts_are_the_change_of_the_mean_distribution(model):
    """Against one softmax for every image, and sums of plain numbers."""
    edits = [latent_edit(model, NODE, "clamp", 3.0), latent_edit(model, UNUSED, "clamp", 3.0)]
    found = shifts(model.batches(50), [alone(edit) for edit in edits], reader_of(model))
    assert found.n_images == len(model.labels)

    def mean(stream):
        block = next(iter(model.batches())).blocks
        logits = model.probe.read(block.resume(stream, 0, 1)).logits
        powers = [[np.exp(value - max(row)) for value in row] for row in logits.tolist()]
        return np.mean([[value / sum(row) for value in row] for row in powers], axis=0)

    birds = model.stream.clone()
    birds[:, 0, NODE] = model.stream[:, 0, NODE].clamp(max=0) + 3.0 / float(model.sae.input_scale)
    expected = np.abs(mean(birds) - mean(model.stream)).sum() / 2
    assert found.shift[0, 0] == pytest.approx(expected, abs=1e-6)
    assert found.shift[0, 0] > 0.3  # two classes of six have a third of the images
    assert found.shift[0, 1] == pytest.approx(0, abs=1e-3)
    assert found.moved[0] > 100 * found.moved[1]


def test_units_are_driven_to_their_own_top(model):
    x = model.stream[:, :1].numpy()
    neurons = driven_neurons(x, 100, 0.99, seed=1)
    assert len(neurons.tops) == D_MODEL
    assert (np.abs(neurons.directions).sum(axis=1) == 1).all()
    for direction, top in zip(neurons.directions, neurons.tops, strict=True):
        assert top == pytest.approx(np.quantile(x[:, 0] @ direction, 0.99), abs=1e-6)
    directions = driven_directions(x, 5, 0.9, seed=1)
    assert np.linalg.norm(directions.directions, axis=1) == pytest.approx(1)
    for edit, direction, top in zip(
        driven_edits(directions, torch.device("cpu")), directions.directions, directions.tops, strict=True
    ):
        moved = model.stream[:, 0] + edit.change(VisitedRows(model.stream[:, 0]))
        assert (moved @ torch.from_numpy(direction)).numpy() == pytest.approx(top, abs=1e-4)
    # Of patch tokens an image counts once, with its greatest value.
    patches = model.stream[:, 1:].numpy()
    several = driven_neurons(patches, 3, 0.5, seed=0)
    greatest = [np.median((patches @ direction).max(axis=1)) for direction in several.directions]
    assert several.tops == pytest.approx(greatest, abs=1e-6)


def test_a_share_has_a_wilson_interval():
    shift = np.array([0.0, 0.05, 0.2, 0.6])
    assert share_of(shift, 0.05).value == 0.75
    half = share_of(np.repeat([0.0, 1.0], 50), 0.5)
    assert (half.value, round(half.low, 3), round(half.high, 3)) == (0.5, 0.404, 0.596)
    assert share_of(np.zeros(10), 0.1).low == 0
    assert np.isnan(share_of(np.empty(0), 0.1).value)
