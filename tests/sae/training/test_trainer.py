"""Training as a whole: what it finds, what it keeps to, and how it ends."""

import dataclasses

import pytest
import torch
from tests.sae.small_trainings import CPU, KINDS, SHORT, assert_same_tensors

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.split import split_rows
from hsae.sae.schedule import learning_rate
from hsae.sae.training import last_good
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import CheckpointSaving, train


def test_relu_recovers_a_planted_dictionary(planted, as_rows):
    # Another seed than the training's, which would otherwise start at the planted directions.
    rows, directions = planted(4_000, 32, 64, 3, seed=100)
    config = SaeConfig(expansion=4, n_steps=1_500, batch_size=256)
    result = train(config, as_rows(rows), device=CPU)
    found = result.sae.decoder_weight.detach()
    assert float((directions @ found.T).max(dim=1).values.mean()) > 0.9
    assert result.metrics.fvu < 0.2
    assert result.metrics.l0 < 20


@pytest.mark.parametrize("kind", KINDS)
def test_directions_keep_unit_norm_and_steps_are_reported(kind, planted, as_rows):
    reports = []
    result = train(KINDS[kind], as_rows(planted(300, 8, 16, 2)[0]), device=CPU, on_step=reports.append)
    torch.testing.assert_close(result.sae.decoder_weight.norm(dim=1), torch.ones(32), atol=1e-6, rtol=0)
    assert [report.step for report in reports] == list(range(1, 61))
    assert {report.n_steps for report in reports} == {60}
    assert reports[-1].reconstruction_loss < reports[0].reconstruction_loss
    assert any(report.auxiliary_loss > 0 for report in reports)
    metrics = result.metrics
    assert (metrics.loss, metrics.sparsity_loss) == (reports[-1].loss, reports[-1].sparsity_loss)
    assert (metrics.n_train_rows, metrics.n_holdout_rows) == (270, 30)
    assert (metrics.batch_size, metrics.n_steps) == (32, 60)
    assert 0 <= metrics.dead_share <= 1


def test_held_out_images_and_their_views_do_not_reach_the_sae(planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0], n_views=3)
    config = KINDS["topk"].model_copy(update={"holdout_share": 0.2, "batch_size": 16})
    first = train(config, rows, device=CPU)
    assert first.metrics.n_holdout_rows == 20
    assert first.metrics.n_train_rows == 240
    held_out = torch.ones(300, dtype=torch.bool)
    held_out[split_rows(rows, holdout_share=0.2, seed=0).train] = False
    changed = rows.activations.clone()
    changed[held_out] += 5.0
    second = train(config, TrainingRows(changed, rows.image_index, rows.view), device=CPU)
    for name, tensor in first.sae.to_tensors().items():
        assert torch.equal(tensor, second.sae.to_tensors()[name])
    assert first.metrics.fvu != second.metrics.fvu


def test_without_holdout_the_training_rows_are_measured(planted, as_rows):
    rows = as_rows(planted(100, 8, 16, 2)[0])
    metrics = train(KINDS["topk"].model_copy(update={"holdout_share": 0.0}), rows, device=CPU).metrics
    assert (metrics.n_train_rows, metrics.n_train_rows_measured, metrics.n_holdout_rows) == (100, 100, 0)
    assert {metrics.fvu, metrics.cosine, metrics.l0, metrics.l1, metrics.holdout_dead_share} == {None}
    assert 0 < metrics.train_fvu < 1
    assert metrics.train_dead_share == metrics.dead_share


def test_train_and_held_out_figures_are_of_as_many_rows(planted, as_rows):
    rows = as_rows(planted(100, 8, 16, 2)[0], n_views=2)
    config = KINDS["relu"].model_copy(update={"holdout_share": 0.2})
    trained = train(config, rows, device=CPU)
    metrics = trained.metrics
    assert (metrics.n_train_rows, metrics.n_train_rows_measured, metrics.n_holdout_rows) == (80, 10, 10)
    split = split_rows(rows, holdout_share=0.2, seed=0)
    for prefix, positions in (("train_", split.measured_train), ("", split.holdout)):
        with torch.no_grad():
            fires = trained.sae.encode(rows.activations[positions]) > 0
        assert getattr(metrics, f"{prefix}l0") == pytest.approx(float(fires.sum(dim=1).float().mean()))
        dead = getattr(metrics, f"{prefix or 'holdout_'}dead_share")
        assert dead == pytest.approx(1 - float(fires.any(dim=0).float().mean()))
    assert metrics.train_fvu < metrics.fvu


@pytest.mark.slow
def test_the_auxiliary_loss_revives_silenced_topk_latents(planted, as_rows, monkeypatch):
    monkeypatch.setattr(last_good, "_MOST_STEPS_BETWEEN", 1)  # the first checkpoint is of the first step
    rows = as_rows(planted(1_000, 16, 64, 2, seed=100)[0])

    def dead_share_at_the_end(aux_coefficient: float) -> float:
        settings = {"n_steps": 400, "batch_size": 64, "dead_after_steps": 15, "learning_rate": 1e-2}
        config = SaeConfig(kind="topk", k=2, aux_coefficient=aux_coefficient, **settings)
        saved: list[Checkpoint] = []
        train(config, rows, device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
        tensors = dict(saved[0].tensors)
        tensors["sae.encoder_bias"][32:] = -5.0  # three quarters of the latents can fire on no row now
        resumed = train(config, rows, device=CPU, checkpoint=Checkpoint(tensors, saved[0].metadata))
        return resumed.metrics.dead_share

    assert dead_share_at_the_end(0.0) == 0.75
    assert dead_share_at_the_end(1 / 32) < 0.6


@pytest.mark.slow
def test_needs_no_operation_without_a_deterministic_form(planted, as_rows):
    torch.use_deterministic_algorithms(True)
    try:
        for config in KINDS.values():
            train(config, as_rows(planted(300, 8, 16, 2)[0]), device=CPU)
    finally:
        torch.use_deterministic_algorithms(False)


def test_bad_rows_and_settings_are_one_line_errors(planted, as_rows):
    activations = planted(100, 8, 16, 2)[0]
    broken = activations.clone()
    broken[41, 3] = float("nan")
    with pytest.raises(UserError, match=r"activation row 41 \(image 41, view 0\) holds NaN"):
        train(SaeConfig(), as_rows(broken), device=CPU)
    with pytest.raises(UserError, match="k=100 is larger than the 64 latents"):
        train(SaeConfig(kind="topk", k=100), as_rows(activations), device=CPU)
    with pytest.raises(UserError, match="batch_size 91 is larger than the 90 training rows: choose 1..90"):
        train(SaeConfig(batch_size=91), as_rows(activations), device=CPU)
    with pytest.raises(UserError, match="are equal"):
        train(SaeConfig(), as_rows(torch.ones(50, 8)), device=CPU)


def test_a_loss_that_explodes_names_the_step(planted, as_rows):
    rows = as_rows(planted(100, 8, 16, 2)[0])
    saved: list[Checkpoint] = []
    train(KINDS["relu"], rows, device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
    tensors = dict(saved[0].tensors)
    tensors["sae.decoder_weight"] = torch.full_like(tensors["sae.decoder_weight"], 1e30)
    with pytest.raises(UserError, match=r"the loss became (nan|inf) at step 2 of 60, .* learning_rate below 0.0025"):
        train(KINDS["relu"], rows, device=CPU, checkpoint=Checkpoint(tensors, saved[0].metadata))


def test_an_exception_of_the_caller_ends_the_training(planted, as_rows):
    def stop(report):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(KINDS["relu"], as_rows(planted(100, 8, 16, 2)[0]), device=CPU, on_step=stop)


@pytest.mark.parametrize("config", SHORT.values(), ids=SHORT)
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
    from_narrow, from_wide = train(SHORT["topk"], narrow, device=CPU), train(SHORT["topk"], wide, device=CPU)
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


def test_rates_rise_stay_and_fall():
    config = SaeConfig(
        learning_rate=0.5, lr_warmup_share=0.1, lr_decay_share=0.2, l1_coefficient=2, l1_warmup_share=0.4
    )
    rates = [learning_rate(config, step, 20) for step in range(20)]
    assert rates == pytest.approx([0.25] + 16 * [0.5] + [0.375, 0.25, 0.125])
    sae = SparseAutoencoder(config, 4)
    weights = [config.variant.l1_weight(sae, step, 20) for step in range(20)]
    assert weights == pytest.approx([0.25 * (step + 1) for step in range(8)] + 12 * [2.0])
    flat = SaeConfig(learning_rate=0.5, lr_warmup_share=0, lr_decay_share=0, l1_coefficient=2, l1_warmup_share=0)
    assert {learning_rate(flat, step, 20) for step in range(20)} == {0.5}
    assert {flat.variant.l1_weight(sae, step, 20) for step in range(20)} == {2}
    assert {SaeConfig(kind="topk").variant.l1_weight(sae, step, 20) for step in range(20)} == {0.0}


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
