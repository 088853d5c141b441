"""Dead latents that are set anew from badly reconstructed rows."""

from typing import Any

import pytest
import torch
from tests.sae.small_trainings import CPU, SHORT, assert_same_tensors

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.training.checkpoint import Checkpoint, TrainingState
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.resampling import drawn_rows, is_due, resample
from hsae.sae.training.trainer import CheckpointSaving, train

KINDS: dict[str, dict[str, Any]] = {
    "relu": {"l1_coefficient": 1.0},
    "topk": {"k": 2},
    "gated": {"l1_coefficient": 3.0},
    "jumprelu": {"l0_coefficient": 0.05},
}


@pytest.fixture
def state(rows):
    """A training after ten steps, of which latents 3, 4 and 9 are dead."""
    sae = untrained_sae(SHORT["topk"], rows)
    state = TrainingState.begin(sae)
    for parameter in sae.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimiser.step()
    state.step = 10
    state.silent_steps[[3, 4, 9]] = 5
    return state


def test_it_happens_at_four_steps():
    assert [step for step in range(81) if is_due(step, 80)] == [10, 20, 30, 40]
    assert [step for step in range(4) if is_due(step, 3)] == [1, 2]


def test_dead_latents_become_bad_rows_and_the_others_stay(state, rows):
    x = rows.activations.clone()
    with torch.no_grad():
        state.sae.encoder_bias.fill_(-100.0)
        state.sae.pre_bias.zero_()
        x[:] = 0  # reconstructed as it is
        x[[7, 20, 33]] = rows.activations[[7, 20, 33]] + 4  # the only rows with a loss
        before = state.sae.to_tensors()
        assert resample(state, 0, 5, lambda: x) == 3
        after = state.sae.to_tensors()
        centred = state.sae.scale_inputs(x[[7, 20, 33]]) - state.sae.pre_bias
    expected = centred / centred.norm(dim=1, keepdim=True)
    dead = [3, 4, 9]
    others = [j for j in range(state.sae.n_latents) if j not in dead]
    cosines = after["decoder_weight"][dead] @ expected.T
    assert sorted(cosines.argmax(dim=1).tolist()) == [0, 1, 2]
    torch.testing.assert_close(cosines.max(dim=1).values, torch.ones(3))
    length = 0.2 * before["encoder_weight"][others].norm(dim=1).mean()
    torch.testing.assert_close(after["encoder_weight"][dead], length * after["decoder_weight"][dead])
    assert not after["encoder_bias"][dead].any()
    assert not state.silent_steps.any()
    for name in ("encoder_weight", "encoder_bias", "decoder_weight"):
        assert torch.equal(after[name][others], before[name][others])
        moments = state.optimiser.state[getattr(state.sae, name)]
        assert not moments["exp_avg"][dead].any()
        assert not moments["exp_avg_sq"][dead].any()
        assert bool(moments["exp_avg"][others].all())
    assert torch.equal(after["pre_bias"], before["pre_bias"])


def test_without_dead_latents_or_without_bad_rows_nothing_changes(state, rows):
    with torch.no_grad():
        state.sae.encoder_bias.fill_(-100.0)
        state.sae.pre_bias.zero_()
    before = state.sae.to_tensors()
    assert resample(state, 0, 6, lambda: rows.activations) == 0
    assert resample(state, 0, 5, lambda: torch.zeros(4, 8)) == 0
    assert_same_tensors(state.sae.to_tensors(), before)


def test_rows_are_drawn_anew_at_every_step_and_the_same_for_the_same_seed():
    first, again, later = drawn_rows(20_000, 1, 10), drawn_rows(20_000, 1, 10), drawn_rows(20_000, 1, 20)
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == (8_192,)
    assert torch.equal(first, first.unique())
    assert drawn_rows(5, 1, 10).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_part_in_a_training_that_resumes_to_the_same_bits(kind, planted, as_rows):
    rows = as_rows(planted(600, 16, 64, 2, seed=100)[0])
    settings: dict[str, Any] = {
        "kind": kind,
        "n_steps": 120,
        "batch_size": 64,
        "dead_after_steps": 8,
        "learning_rate": 1e-2,
    }
    config = SaeConfig(**settings, **KINDS[kind], dead_latents="resample")
    saved: list[Checkpoint] = []
    straight = train(config, rows, device=CPU, saving=CheckpointSaving(lambda: True, saved.append))
    off = train(SaeConfig(**settings, **KINDS[kind], aux_coefficient=0), rows, device=CPU)
    assert straight.metrics.auxiliary_loss == 0
    assert not torch.equal(straight.sae.decoder_weight, off.sae.decoder_weight)
    if kind == "topk":
        assert straight.metrics.fvu < off.metrics.fvu
        assert straight.metrics.dead_share < off.metrics.dead_share
    checkpoint = next(c for c in saved if int(c.metadata["step"]) == 45)  # the third resampling, for 8 of it
    resumed = train(config, rows, device=CPU, checkpoint=checkpoint)
    assert_same_tensors(resumed.sae.to_tensors(), straight.sae.to_tensors())
    assert resumed.metrics == straight.metrics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "frozen"}, "resample sets directions anew, which kind frozen does not allow"),
        ({"kind": "soft_frozen"}, "which kind soft_frozen does not allow"),
        (
            {"kind": "topk", "k_aux": 4},
            "k_aux belongs to the auxiliary loss: leave it out or choose dead_latents: auxk",
        ),
        ({"aux_coefficient": 0.5}, "aux_coefficient belongs to the auxiliary loss"),
    ],
)
def test_what_does_not_go_with_it_is_refused(settings, message):
    with pytest.raises(UserError, match=message):
        SaeConfig(dead_latents="resample", **settings)


def test_the_default_is_not_written():
    assert "dead_latents" not in SaeConfig().model_dump()
    assert SaeConfig(dead_latents="resample").model_dump()["dead_latents"] == "resample"
