"""ReLU with a target L0: where it ends, what it says of it, and how its L1 coefficient moves."""

import math

import pytest
import torch
from tests.sae.small_trainings import CPU

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, check_config, initial_l0
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.trainer import train
from hsae.sae.variants.variant import StepDone


def planted_rows(planted, as_rows, *, n_active: int, seed: int):
    return as_rows(planted(600, 16, 48, n_active, seed=seed)[0])


@pytest.mark.parametrize(("target", "n_active"), [(6, 2), (12, 2), (6, 4), (12, 4)])
def test_ends_within_a_tenth_of_the_held_out_l0_asked_for(target, n_active, planted, as_rows):
    config = SaeConfig(target_l0=target, expansion=4, n_steps=500, batch_size=64, holdout_share=0.2, seed=1)
    metrics = train(config, planted_rows(planted, as_rows, n_active=n_active, seed=100), device=CPU).metrics
    assert metrics.l0 == pytest.approx(target, rel=0.1)
    assert metrics.of_kind["target_l0"] == target
    assert metrics.of_kind["reached_target_l0"] is True
    assert metrics.of_kind["l1_coefficient"] != pytest.approx(0.3)


def test_without_held_out_rows_the_training_rows_count(planted, as_rows):
    config = SaeConfig(target_l0=8, expansion=4, n_steps=500, batch_size=64, holdout_share=0)
    metrics = train(config, planted_rows(planted, as_rows, n_active=3, seed=100), device=CPU).metrics
    assert metrics.l0 is None
    assert metrics.train_l0 == pytest.approx(8, rel=0.1)
    assert metrics.of_kind["reached_target_l0"] is True


def test_says_when_the_training_was_too_short(planted, as_rows):
    config = SaeConfig(target_l0=2, expansion=4, n_steps=3, batch_size=64, learning_rate=1e-6)
    metrics = train(config, planted_rows(planted, as_rows, n_active=3, seed=100), device=CPU).metrics
    config_above = config.model_copy(update={"variant": SaeConfig(target_l0=60).variant})
    above = train(config_above, planted_rows(planted, as_rows, n_active=3, seed=100), device=CPU).metrics
    reached = [abs(m.l0 / m.of_kind["target_l0"] - 1) <= 0.1 for m in (metrics, above)]
    assert [m.of_kind["reached_target_l0"] for m in (metrics, above)] == reached
    variant = SaeConfig(target_l0=20).variant
    sae = SparseAutoencoder(SaeConfig(target_l0=20), 4)
    for l0, expected in ((17.9, False), (18.1, True), (21.9, True), (22.1, False), (0.0, False)):
        assert variant.own_metrics(sae, l0)["reached_target_l0"] is expected
    assert SaeConfig().variant.own_metrics(SparseAutoencoder(SaeConfig(), 4), 3.0) == {}


def test_the_coefficient_follows_the_formula():
    config = SaeConfig(target_l0=10)
    sae = SparseAutoencoder(config, 4)
    variant = config.variant
    with torch.no_grad():
        sae.encoder_weight.fill_(1)
        sae.decoder_weight.fill_(1)
        variant.initialise(sae)
    assert float(variant.l1_weight(sae, 0, 100)) == pytest.approx(0.03)  # a tenth of the warm-up
    expected, before = 0.3, 0.0
    measured = {19: 15.0, 29: 12.0, 39: 1000.0, 49: 0.0}

    def l0_of(step):
        return torch.tensor(measured.get(step, 10.0), dtype=torch.float64)

    for step in range(5, 50):
        share = 1.0 if step < 40 else 0.5
        asked = []
        with torch.no_grad():
            variant.after_step(
                sae,
                StepDone(step, 100, share, lambda s=step, a=asked: a.append(s) or l0_of(s)),  # type: ignore[misc]
            )
        assert bool(asked) == (step >= 9 and (step + 1) % 10 == 0)
        if asked:
            l0 = measured.get(step, 10.0)
            error = math.log(max(l0, 1e-3) / 10)
            error = min(max(error, -math.log(2)), math.log(2))
            expected *= math.exp(1.0 * (error - before) + 0.4 * share * error)
            before = error
        assert float(sae.l1_coefficient) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]
    assert float(variant.l1_weight(sae, 99, 100)) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(sae.decoder_weight.detach().norm(dim=1), torch.ones(sae.n_latents))


def test_more_latents_than_there_are_cannot_fire():
    check_config(SaeConfig(target_l0=8, expansion=1), 8)
    assert initial_l0(SaeConfig(target_l0=8, expansion=1), 8) == 8
    assert initial_l0(SaeConfig(target_l0=0.2), 8) == 1
    with pytest.raises(UserError, match="target_l0=9 is larger than the 8 latents"):
        check_config(SaeConfig(target_l0=8.5, expansion=1), 8)
