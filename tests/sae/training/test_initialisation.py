"""The state before the first step."""

import math
from types import SimpleNamespace

import pytest
import torch

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.split import split_rows
from hsae.sae.training import trainer
from hsae.sae.training.checkpoint import TrainingState
from hsae.sae.training.geometric_median import geometric_median
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train


def anisotropic(n_rows: int, d_model: int) -> torch.Tensor:
    """Rows like those of an early layer: a large common offset, most of the little variance in a few directions."""
    noise = torch.randn(n_rows, d_model, generator=torch.Generator().manual_seed(0))
    return 20.0 + 0.01 * noise * torch.arange(1, d_model + 1).float() ** -1.5


@pytest.mark.parametrize("config", [SaeConfig(), SaeConfig(kind="topk", k=12)], ids=["relu", "topk"])
def test_scale_bias_and_directions(config, as_rows):
    rows = as_rows(anisotropic(500, 24))
    sae = untrained_sae(config, rows)
    train = rows.activations[split_rows(rows, holdout_share=0.1, seed=0).train]
    with torch.no_grad():
        centred = sae.scale_inputs(train) - sae.pre_bias
        z = sae.encode(train)
    assert float(centred.norm(dim=1).mean()) == pytest.approx(math.sqrt(24), rel=1e-4)
    torch.testing.assert_close((sae.pre_bias / sae.input_scale).double(), geometric_median(train), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(sae.decoder_weight.norm(dim=1), torch.ones(192))
    assert torch.equal(sae.decoder_weight, sae.encoder_weight)
    l0 = 12 if config.kind == "topk" else 32
    assert int((z > 0).sum(dim=1).max()) <= (12 if config.kind == "topk" else 192)
    with torch.no_grad():
        firing = (sae.pre_activations(sae.scale_inputs(train)) > 0).float().mean(dim=0)
    torch.testing.assert_close(firing, torch.full((192,), round(l0 / 192 * 450) / 450), atol=0.003, rtol=0)


def test_the_seed_decides(as_rows):
    rows = as_rows(anisotropic(100, 8))
    one, same, other = (untrained_sae(SaeConfig(seed=seed), rows).to_tensors() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["decoder_weight"], other["decoder_weight"])


@pytest.mark.parametrize("config", [SaeConfig(n_steps=1), SaeConfig(kind="topk", k=3, n_steps=1, seed=5)])
def test_it_is_the_state_that_training_starts_from(config, as_rows, monkeypatch):
    rows = as_rows(anisotropic(200, 8))
    begun = []

    def begin(sae):
        begun.append(sae.to_tensors())
        return TrainingState.begin(sae)

    monkeypatch.setattr(trainer, "TrainingState", SimpleNamespace(begin=begin))
    trained = train(config, rows, device=torch.device("cpu")).sae.to_tensors()
    (start,) = begun
    untrained = untrained_sae(config, rows).to_tensors()
    assert set(untrained) == set(start)
    assert all(torch.equal(untrained[name], start[name]) for name in start)
    assert not torch.equal(trained["encoder_weight"], start["encoder_weight"])


@pytest.mark.parametrize("value", [0.0, 0.1, 3e4])
def test_constant_rows_are_an_error(value):
    rows = TrainingRows(torch.full((20, 4), value), torch.arange(20), torch.zeros(20, dtype=torch.int16))
    with pytest.raises(UserError, match="all 18 training rows are equal"):
        untrained_sae(SaeConfig(), rows)


@pytest.mark.parametrize("config", [SaeConfig(), SaeConfig(kind="topk", k=6)], ids=lambda config: config.kind)
def test_an_offset_and_a_unit_do_not_change_what_an_untrained_sae_sees(config, planted, as_rows):
    activations, _ = planted(800, 8, 12, 2)
    sae, moved = (untrained_sae(config, as_rows(x)) for x in (activations, 40 + 3 * activations))
    assert float(moved.input_scale) == pytest.approx(float(sae.input_scale) / 3, rel=1e-4)
    torch.testing.assert_close(moved.encoder_bias, sae.encoder_bias, rtol=1e-3, atol=1e-3)
