"""Trainings whose matrix products are in bfloat16: float32 weights, the same bits again, nearly the same SAE."""

import pytest
import torch
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors
from tests.sae.training.test_checkpoint import train_saving_after

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.training.trainer import train


def in_bfloat16(config: SaeConfig) -> SaeConfig:
    return config.model_copy(update={"precision": "bfloat16"})


NARROW = {name: config for name, config in SHORT.items() if config.variant.narrow_products}


@pytest.mark.parametrize("config", NARROW.values(), ids=NARROW)
def test_every_kind_trains_to_finite_float32_weights(config, rows):
    config = config.model_copy(update={"n_steps": 12})
    narrow, exact = (train(each, rows, device=CPU).sae.to_tensors() for each in (in_bfloat16(config), config))
    assert {tensor.dtype for tensor in narrow.values()} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in narrow.values())
    assert any(not torch.equal(exact[name], tensor) for name, tensor in narrow.items())


def test_interrupted_and_resumed_equals_straight(rows):
    config = in_bfloat16(SHORT["topk"])
    straight, _, reports = train_saving_after(config, rows, set())
    _, saved, _ = train_saving_after(config, rows, {17}, stop_at=18)
    resumed, _, rest = train_saving_after(config, rows, set(), checkpoint=saved[17])
    assert rest == reports[17:]
    assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())


@pytest.mark.parametrize("settings", [{"kind": "topk", "k": 2}, {"l1_coefficient": 0.1}], ids=["topk", "relu"])
def test_it_reconstructs_as_well(settings, planted, as_rows):
    rows = as_rows(planted(600, 8, 12, 2)[0])
    config = SaeConfig(expansion=4, n_steps=300, batch_size=64, learning_rate=1e-2, **settings)
    exact, narrow = (train(each, rows, device=CPU).metrics for each in (config, in_bfloat16(config)))
    assert exact.fvu < 0.25
    assert narrow.fvu == pytest.approx(exact.fvu, abs=0.05)
    assert narrow.l0 == pytest.approx(exact.l0, rel=0.1)


def test_the_setting_is_written_only_where_it_is_not_the_default():
    assert "precision" not in SaeConfig().model_dump()
    config = in_bfloat16(SaeConfig())
    assert SaeConfig.parse(config.model_dump()) == config


def test_a_kind_whose_rounding_adds_up_is_refused():
    with pytest.raises(UserError, match="a matching_pursuit SAE needs float32 products"):
        SaeConfig(kind="matching_pursuit", precision="bfloat16")
