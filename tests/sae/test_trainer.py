"""Training as a whole: what it finds, what it keeps to, and that it can be interrupted."""

import pytest
import torch

from hsae.errors import UserError
from hsae.sae.checkpoint import Checkpoint
from hsae.sae.config import SaeConfig
from hsae.sae.rows import TrainingRows
from hsae.sae.trainer import train

CPU = torch.device("cpu")
SMALL = {"expansion": 4, "n_steps": 60, "batch_size": 32, "dead_after_steps": 2, "learning_rate": 1e-2}
KINDS = {
    "relu": SaeConfig(l1_coefficient=1.0, l1_warmup_share=0.5, **SMALL),
    "topk": SaeConfig(kind="topk", k=2, **SMALL),
}


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


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_anywhere_ends_with_the_same_bits(kind, planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0].bfloat16(), n_views=2)
    saved: dict[str, Checkpoint] = {}
    straight = train(
        KINDS[kind],
        rows,
        device=CPU,
        checkpoint_due=lambda: True,
        save_checkpoint=lambda checkpoint: saved.update({checkpoint.metadata["step"]: checkpoint}),
    )
    assert list(saved) == [str(step) for step in range(1, 60)]
    assert any((checkpoint.tensors["silent_steps"] >= 2).any() for checkpoint in saved.values())  # AuxK is at work
    for step in ("1", "25", "31", "59"):
        later: dict[str, Checkpoint] = {}
        resumed = train(
            KINDS[kind],
            rows,
            device=CPU,
            checkpoint=saved[step],
            checkpoint_due=lambda: True,
            save_checkpoint=lambda checkpoint, later=later: later.update({checkpoint.metadata["step"]: checkpoint}),
        )
        assert resumed.metrics == straight.metrics
        for name, tensor in straight.sae.to_tensors().items():
            assert torch.equal(tensor, resumed.sae.to_tensors()[name]), name
        for at, checkpoint in later.items():
            assert checkpoint.metadata == saved[at].metadata
            for name, tensor in checkpoint.tensors.items():
                assert torch.equal(tensor, saved[at].tensors[name]), (at, name)


def test_a_checkpoint_of_another_training_is_refused(planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0])
    saved: list[Checkpoint] = []
    config = KINDS["topk"]
    train(config, rows, device=CPU, checkpoint_due=lambda: not saved, save_checkpoint=saved.append)
    checkpoint = saved[0]
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(UserError, match="the checkpoint is of another training"):
        train(other, rows, device=CPU, checkpoint=checkpoint)
    fewer = TrainingRows(rows.activations[:200], rows.image_index[:200], rows.view[:200])
    with pytest.raises(UserError, match="n_train_rows is 270, not 180"):
        train(config, fewer, device=CPU, checkpoint=checkpoint)
    without = {name: t for name, t in checkpoint.tensors.items() if name != "adam.pre_bias.exp_avg"}
    with pytest.raises(UserError, match="the checkpoint is incomplete"):
        train(config, rows, device=CPU, checkpoint=Checkpoint(without, checkpoint.metadata))


def test_held_out_images_and_their_views_do_not_reach_the_sae(planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0], n_views=3)
    config = KINDS["topk"].model_copy(update={"holdout_share": 0.2, "batch_size": 16})
    first = train(config, rows, device=CPU)
    assert first.metrics.n_holdout_rows == 20
    assert first.metrics.n_train_rows == 240
    from hsae.sae.rows import split_rows

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
    assert (metrics.n_train_rows, metrics.n_holdout_rows) == (100, 0)


def test_the_auxiliary_loss_revives_silenced_topk_latents(planted, as_rows):
    rows = as_rows(planted(1_000, 16, 64, 2, seed=100)[0])

    def dead_share_at_the_end(aux_coefficient: float) -> float:
        settings = {"n_steps": 400, "batch_size": 64, "dead_after_steps": 15, "learning_rate": 1e-2}
        config = SaeConfig(kind="topk", k=2, aux_coefficient=aux_coefficient, **settings)
        saved: list[Checkpoint] = []
        train(config, rows, device=CPU, checkpoint_due=lambda: not saved, save_checkpoint=saved.append)
        tensors = dict(saved[0].tensors)
        tensors["sae.encoder_bias"][32:] = -5.0  # three quarters of the latents can fire on no row now
        resumed = train(config, rows, device=CPU, checkpoint=Checkpoint(tensors, saved[0].metadata))
        return resumed.metrics.dead_share

    assert dead_share_at_the_end(0.0) == 0.75
    assert dead_share_at_the_end(1 / 32) < 0.6


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
    train(KINDS["relu"], rows, device=CPU, checkpoint_due=lambda: not saved, save_checkpoint=saved.append)
    tensors = dict(saved[0].tensors)
    tensors["sae.decoder_weight"] = torch.full_like(tensors["sae.decoder_weight"], 1e30)
    with pytest.raises(
        UserError, match=r"the loss became (nan|inf) at step 2 of 60: choose a learning_rate below 0.01"
    ):
        train(KINDS["relu"], rows, device=CPU, checkpoint=Checkpoint(tensors, saved[0].metadata))


def test_an_exception_of_the_caller_ends_the_training(planted, as_rows):
    def stop(report):
        if report.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(KINDS["relu"], as_rows(planted(100, 8, 16, 2)[0]), device=CPU, on_step=stop)
