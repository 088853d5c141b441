"""A number that is no longer finite: the training goes back, halves its rate, and fails clearly in the end."""

from dataclasses import dataclass

import pytest
import safetensors.torch
import torch
from tests.sae.small_trainings import CPU, assert_same_tensors

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.training.checkpoint import Checkpoint
from hsae.sae.training.last_good import steps_between_kept_states
from hsae.sae.training.trainer import CheckpointSaving, StepReport, train
from hsae.sae.variants import VARIANTS
from hsae.sae.variants.topk import TopK

N_STEPS = 120  # a state is kept after every third step
BREAKS_FROM = 64
CONFIG = {"kind": "fragile", "k": 2, "expansion": 4, "n_steps": N_STEPS, "batch_size": 32, "learning_rate": 1e-2}
bearable: dict[str, float] = {}


@dataclass(frozen=True)
class Fragile(TopK):
    """TopK that breaks from some step on if the step before had too great a rate: loss, gradient or weights."""

    kind = "fragile"

    def own_buffers(self, n_latents, d_model):
        return {"last_rate": ()}

    def breaks(self, what, sae, step):
        return step >= BREAKS_FROM and float(sae.last_rate) > bearable[what]

    def losses(self, sae, x_scaled, at):
        losses = super().losses(sae, x_scaled, at)
        if self.breaks("loss", sae, at.step):
            losses.total.data.fill_(float("nan"))
        return losses

    def before_step(self, sae):
        super().before_step(sae)
        if self.breaks("gradient", sae, N_STEPS):
            sae.encoder_weight.grad[0, 0] = float("inf")

    def after_step(self, sae, done):
        super().after_step(sae, done)
        if self.breaks("weights", sae, done.step - 1):
            sae.pre_bias[0] = float("nan")
        sae.last_rate.fill_(done.rate_share)


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(VARIANTS, Fragile.kind, Fragile)
    bearable.update(loss=9.0, gradient=9.0, weights=9.0)


def test_states_are_kept_at_steps_that_the_length_alone_decides():
    assert [steps_between_kept_states(n) for n in (1, 60, 120, 1_000, 2_000, 20_000)] == [1, 1, 3, 25, 50, 50]


@pytest.mark.parametrize(("what", "limit", "n_returns"), [("loss", 0.6, 1), ("weights", 0.6, 1), ("loss", 0.3, 2)])
def test_it_goes_back_with_half_the_rate_and_ends_well_also_when_interrupted(what, limit, n_returns, rows):
    bearable[what] = limit
    config = SaeConfig(**CONFIG)
    reports: list[StepReport] = []
    saved: list[Checkpoint] = []
    saving = CheckpointSaving(lambda: True, saved.append)
    straight = train(config, rows, device=CPU, on_step=reports.append, saving=saving)
    assert straight.metrics.rate_halvings == n_returns
    assert bool(torch.isfinite(straight.sae.pre_bias).all())
    steps = [(report.step, report.rate_halvings) for report in reports]
    reached = 66 if what == "weights" else BREAKS_FROM  # a weight is seen when the next state is due
    first = [(step, 0) for step in range(1, reached)] if what == "weights" else [(s, 0) for s in range(1, reached + 1)]
    assert steps[: len(first) + 1] == [*first, (64, 1)]  # the state of step 63 was the last one kept
    assert steps[-57:] == [(step, n_returns) for step in range(64, N_STEPS + 1)]

    places = [(int(c.metadata["step"]), int(c.metadata["rate_halvings"])) for c in saved]
    returns = [(63, halvings) for halvings in range(1, n_returns + 1)]
    assert places == [(s, 0) for s in range(3, 64, 3)] + returns + [(s, n_returns) for s in range(66, N_STEPS, 3)]
    for checkpoint in (saved[5], saved[20], saved[21]):
        read = safetensors.torch.load(safetensors.torch.save(dict(checkpoint.tensors)))
        resumed = train(config, rows, device=CPU, checkpoint=Checkpoint(read, checkpoint.metadata))
        assert resumed.metrics == straight.metrics
        assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("loss", "the loss became nan at step 65 of 120"),
        ("gradient", "the gradient's norm became inf at step 2 of 120"),
        ("weights", "pre_bias holds NaN or infinity after step 66 of 120"),
    ],
)
def test_it_fails_after_two_returns_and_names_step_and_settings(what, named, rows):
    bearable[what] = 0.0
    with pytest.raises(UserError) as error:
        train(SaeConfig(**CONFIG), rows, device=CPU)
    assert str(error.value) == (
        f"{named}, also after 2 returns to an earlier step, each with half the learning rate "
        "(learning_rate 0.01, 0.0025 at last): choose a learning_rate below 0.0025"
    )


def test_a_checkpoint_of_before_there_were_returns_still_restores(rows):
    config = SaeConfig(**{**CONFIG, "n_steps": 20})
    saved: list[Checkpoint] = []
    straight = train(config, rows, device=CPU, saving=CheckpointSaving(lambda: not saved, saved.append))
    metadata = {name: value for name, value in saved[0].metadata.items() if name != "rate_halvings"}
    resumed = train(config, rows, device=CPU, checkpoint=Checkpoint(saved[0].tensors, metadata))
    assert resumed.metrics == straight.metrics
    assert resumed.metrics.rate_halvings == 0
