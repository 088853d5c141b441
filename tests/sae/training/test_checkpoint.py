"""A training that is resumed from a checkpoint is the training that was not interrupted, to the bit."""

import pytest
import safetensors.torch
import torch
from tests.sae.small_trainings import CPU, KINDS, N_STEPS, SHORT, assert_same_tensors

from hsae.errors import UserError
from hsae.sae.rows.source import TrainingRows
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.trainer import CheckpointSaving, StepReport, train


class InterruptedTrainingError(Exception):
    pass


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
            saving=CheckpointSaving(
                lambda: reports[-1].step in steps,
                lambda c: saved.__setitem__(int(c.metadata["step"]), through_a_file(c)),
            ),
        )
    except InterruptedTrainingError:
        assert stop_at is not None
    return result, saved, reports


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_anywhere_ends_with_the_same_bits(kind, planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0].bfloat16(), n_views=2)
    saved: dict[str, Checkpoint] = {}
    straight = train(
        KINDS[kind],
        rows,
        device=CPU,
        saving=CheckpointSaving(
            lambda: True,
            lambda checkpoint: saved.update({checkpoint.metadata["step"]: checkpoint}),
        ),
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
            saving=CheckpointSaving(
                lambda: True,
                lambda checkpoint, later=later: later.update({checkpoint.metadata["step"]: checkpoint}),  # type: ignore[misc]
            ),
        )
        assert resumed.metrics == straight.metrics
        for name, tensor in straight.sae.to_tensors().items():
            assert torch.equal(tensor, resumed.sae.to_tensors()[name]), name
        for at, checkpoint in later.items():
            assert checkpoint.metadata == saved[at].metadata
            for name, tensor in checkpoint.tensors.items():
                assert torch.equal(tensor, saved[at].tensors[name]), (at, name)


@pytest.mark.parametrize("config", SHORT.values(), ids=SHORT)
@pytest.mark.parametrize("step", [17, 37])
def test_interrupted_and_resumed_from_a_file_equals_straight(config, rows, step):
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


def test_a_checkpoint_of_another_training_is_refused(planted, as_rows):
    rows = as_rows(planted(300, 8, 16, 2)[0])
    saved: list[Checkpoint] = []
    config = KINDS["topk"]
    train(config, rows, device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
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


def test_a_checkpoint_that_cannot_be_of_this_training_is_refused(rows):
    config = SHORT["topk"]
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
