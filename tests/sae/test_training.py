"""Whole trainings: resumed ones, reproducible ones, what they find, how long they last."""

import dataclasses

import pytest
import safetensors.torch
import torch

from hsae.errors import UserError
from hsae.sae.checkpoint import Checkpoint
from hsae.sae.config import SaeConfig, resolve_dead_after_steps, resolve_schedule
from hsae.sae.initialisation import untrained_sae
from hsae.sae.rows import TrainingRows
from hsae.sae.trainer import StepReport, learning_rate, train

CPU = torch.device("cpu")
N_STEPS = 40
SMALL = {"expansion": 4, "n_steps": N_STEPS, "batch_size": 32, "dead_after_steps": 2, "learning_rate": 1e-2, "seed": 5}
KINDS = [
    SaeConfig(kind="relu", l1_coefficient=1.0, l1_warmup_share=0.5, **SMALL),
    SaeConfig(kind="topk", k=2, **SMALL),
]


class InterruptedTrainingError(Exception):
    pass


@pytest.fixture
def rows(planted, as_rows) -> TrainingRows:
    return as_rows(planted(150, 8, 12, 2)[0])


def through_a_file(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint(safetensors.torch.load(safetensors.torch.save(dict(checkpoint.tensors))), checkpoint.metadata)


def train_saving_after(config, rows, steps, *, checkpoint=None, stop_at=None):
    """(result or None, checkpoints after `steps`, reports); a `stop_at` ends the training at that step."""
    saved: dict[int, Checkpoint] = {}
    reports: list[StepReport] = []

    def on_step(report: StepReport) -> None:
        reports.append(report)
        if report.step == stop_at:
            raise InterruptedTrainingError

    result = None
    try:
        result = train(
            config,
            rows,
            device=CPU,
            checkpoint=checkpoint,
            on_step=on_step,
            checkpoint_due=lambda: reports[-1].step in steps,
            save_checkpoint=lambda c: saved.__setitem__(int(c.metadata["step"]), through_a_file(c)),
        )
    except InterruptedTrainingError:
        assert stop_at is not None
    return result, saved, reports


def assert_same_tensors(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
@pytest.mark.parametrize("step", [17, 37])
def test_interrupted_and_resumed_from_a_file_equals_straight(config, rows, step):
    # The L1 penalty rises until step 20, the learning rate falls from step 32 on.
    last = N_STEPS - 1
    straight, straight_saved, straight_reports = train_saving_after(config, rows, {last})
    result, saved, reports = train_saving_after(config, rows, {step}, stop_at=step + 3)
    assert result is None
    assert set(saved) == {step}
    assert reports == straight_reports[: step + 3]
    assert any(report.auxiliary_loss > 0 for report in straight_reports[:37])
    assert any(report.auxiliary_loss > 0 for report in straight_reports[step:])

    resumed, resumed_saved, rest = train_saving_after(config, rows, {last}, checkpoint=saved[step])
    assert rest == straight_reports[step:]
    assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())
    assert resumed.metrics == straight.metrics
    assert resumed_saved[last].metadata == straight_saved[last].metadata
    assert_same_tensors(resumed_saved[last].tensors, straight_saved[last].tensors)


def test_a_checkpoint_that_cannot_be_of_this_training_is_refused(rows):
    config = KINDS[1]
    _, saved, _ = train_saving_after(config, rows, {3}, stop_at=4)
    checkpoint = saved[3]

    def refusal(checkpoint, rows=rows):
        with pytest.raises(UserError) as error:
            train(config, rows, device=CPU, checkpoint=checkpoint)
        assert "\n" not in str(error.value)
        return str(error.value)

    wider = TrainingRows(torch.randn(150, 16), rows.image_index, rows.view)
    assert "of another training (d_model 8, not 16)" in refusal(checkpoint, wider)
    for name, value, message in [("step", "99", "claims step 99 of 40"), ("format", "other/1", "format is other/1")]:
        assert message in refusal(Checkpoint(checkpoint.tensors, {**checkpoint.metadata, name: value}))


@pytest.mark.parametrize("config", KINDS, ids=lambda config: config.kind)
def test_same_seed_same_bits(config, rows):
    first = train(config, rows, device=CPU)
    again = train(config, rows, device=CPU)
    other = train(config.model_copy(update={"seed": 6}), rows, device=CPU)
    assert_same_tensors(again.sae.to_tensors(), first.sae.to_tensors())
    assert again.metrics == first.metrics
    assert not torch.equal(other.sae.encoder_weight, first.sae.encoder_weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_of_half_precision_train_like_their_float32_values(rows, dtype):
    narrow = dataclasses.replace(rows, activations=rows.activations.to(dtype))
    wide = dataclasses.replace(rows, activations=narrow.activations.float())
    from_narrow, from_wide = train(KINDS[1], narrow, device=CPU), train(KINDS[1], wide, device=CPU)
    assert_same_tensors(from_narrow.sae.to_tensors(), from_wide.sae.to_tensors())
    assert from_narrow.metrics == from_wide.metrics


@pytest.mark.parametrize("seed", [0, 1])
def test_topk_finds_the_planted_directions(planted, as_rows, seed):
    # The data's seed is not the training's: equal ones would start the SAE at the planted directions themselves.
    activations, directions = planted(2000, 16, 24, 3, seed=100 + seed)
    config = SaeConfig(kind="topk", k=3, expansion=2, n_steps=800, batch_size=128, learning_rate=1e-2, seed=seed)
    trained = train(config, as_rows(activations), device=CPU)
    cosines = directions @ trained.sae.decoder_weight.detach().T
    assert float(cosines.max(dim=1).values.mean()) > 0.9
    before = directions @ untrained_sae(config, as_rows(activations)).decoder_weight.detach().T
    assert float(before.max(dim=1).values.mean()) < 0.7
    assert trained.metrics.l0 <= 3
    assert trained.metrics.fvu < 0.25
    assert trained.metrics.cosine > 0.95


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_steps", "dead_after_steps"),
    [
        (10, 10, 1_000, 2),
        (900, 64, 1_000, 30),
        (1_100, 64, 1_000, 36),
        (50_000, 2_048, 1_220, 50),
        (1_300_000, 4_096, 15_869, 636),
        (5_000_000, 4_096, 20_000, 1_000),
    ],
)
def test_the_schedule_of_a_number_of_rows(n_rows, batch_size, n_steps, dead_after_steps):
    assert resolve_schedule(SaeConfig(), n_rows) == (batch_size, n_steps)
    assert resolve_dead_after_steps(SaeConfig(), n_rows) == dead_after_steps
    assert resolve_schedule(SaeConfig(n_steps=7, batch_size=5), n_rows) == (5, 7)
    assert resolve_dead_after_steps(SaeConfig(dead_after_steps=3), n_rows) == 3


def test_rates_rise_stay_and_fall():
    config = SaeConfig(
        learning_rate=0.5, lr_warmup_share=0.1, lr_decay_share=0.2, l1_coefficient=2, l1_warmup_share=0.4
    )
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates == pytest.approx([0.25] + 16 * [0.5] + [0.375, 0.25, 0.125])
    weights = [config.variant.l1_weight(step, 20) for step in range(20)]
    assert weights == pytest.approx([0.25 * (step + 1) for step in range(8)] + 12 * [2])
    flat = SaeConfig(learning_rate=0.5, lr_warmup_share=0, lr_decay_share=0, l1_coefficient=2, l1_warmup_share=0)
    assert {learning_rate(flat, step, 20) for step in range(20)} == {0.5}
    assert {flat.variant.l1_weight(step, 20) for step in range(20)} == {2}
    assert {SaeConfig(kind="topk").variant.l1_weight(step, 20) for step in range(20)} == {0.0}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_auxiliary_loss_keeps_relu_latents_alive(planted, as_rows, seed):
    # So strong a penalty leaves about 0.7 of the latents dead, with the auxiliary loss about 0.2.
    rows = as_rows(planted(1000, 16, 12, 2, seed=100 + seed)[0])
    config = SaeConfig(
        l1_coefficient=1.0, n_steps=300, batch_size=64, learning_rate=1e-2, dead_after_steps=15, seed=seed
    )
    alone = train(config.model_copy(update={"aux_coefficient": 0.0}), rows, device=CPU)
    helped = train(config, rows, device=CPU)
    assert alone.metrics.auxiliary_loss == 0
    assert helped.metrics.dead_share < alone.metrics.dead_share - 0.2
