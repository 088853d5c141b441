"""BatchTopK: what a batch selects, the threshold of inference, micro-batches."""

import pytest
import torch
from tests.sae.small_trainings import CPU, SHORT
from tests.sae.variants.plain_formula import (
    assert_same_losses,
    at_step,
    leaves,
    plain_auxiliary,
    random_rows,
    random_sae,
)

from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.trainer import train
from hsae.sae.variants.variant import StepDone


def identity_sae(config):
    """Pre-activations are the rows themselves."""
    sae = SparseAutoencoder(config, 3)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(3))
        sae.decoder_weight.copy_(torch.eye(3))
    return sae


def test_a_batch_by_hand_and_inference_above_the_threshold():
    config = SaeConfig(kind="batch_topk", k=1, expansion=1, aux_coefficient=0)
    sae = identity_sae(config)
    rows = torch.tensor([[5.0, 3.0, 2.0], [1.0, 2.0, -4.0], [-1.0, -1.0, -1.0]])
    # Three fire: 5, 3, and of the two equal to 2 the one of the lower row. The last row has none.
    losses = config.variant.losses(sae, rows, at_step(sae))
    residual = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, -4.0], [-1.0, -1.0, -1.0]])
    torch.testing.assert_close(losses.reconstruction, residual.square().mean())
    assert float(losses.note) == 2.0
    assert losses.fired.tolist() == [True, True, True]

    torch.testing.assert_close(sae.encode(rows), rows.relu())  # before the first step: whatever is positive
    with torch.no_grad():
        config.variant.after_step(sae, StepDone(0, 10, 1.0, lambda: torch.zeros(()), [losses.note]))
    assert float(sae.get_buffer("threshold")) == 2.0
    expected = torch.tensor([[5.0, 3.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])  # above it, not at it
    torch.testing.assert_close(sae.encode(rows), expected)


@pytest.mark.parametrize(("n_steps", "window"), [(4, 1), (150, 15), (1000, 100), (3000, 100)])
def test_the_threshold_is_a_mean_first_and_an_exponential_one_later(n_steps, window):
    sae = identity_sae(SaeConfig(kind="batch_topk", k=1, expansion=1))
    threshold, expected, seen = sae.get_buffer("threshold"), 0.0, []
    for step in range(min(n_steps, 200)):
        least = 1.0 + (step * 7 % 13) / 13
        seen.append(least)
        with torch.no_grad():
            sae.config.variant.after_step(
                sae, StepDone(step, n_steps, 1.0, lambda: torch.zeros(()), [torch.tensor(least)])
            )
        expected = sum(seen) / len(seen) if step < window else expected + (least - expected) / window
        assert float(threshold) == pytest.approx(expected, rel=1e-5)
    before = float(threshold)
    with torch.no_grad():
        none_fired = [torch.tensor(float("inf"))]
        sae.config.variant.after_step(sae, StepDone(n_steps - 1, n_steps, 1.0, lambda: torch.zeros(()), none_fired))
    assert float(threshold) == before


@pytest.mark.parametrize("k", [1, 3, 12])
def test_losses_and_gradients_are_those_of_the_formula(k):
    config = SaeConfig(kind="batch_topk", k=k, expansion=2)
    sae, x = random_sae(config), random_rows()
    at = at_step(sae, dead=(2, 5, 7))
    found = config.variant.losses(sae, x, at)

    encoder, bias, decoder, pre_bias = parameters = leaves(sae)
    pre = (x.double() - pre_bias) @ encoder.T + bias
    n = min(k * x.shape[0], int((pre > 0).sum()))
    z = pre * (pre >= pre.detach().flatten().sort(descending=True).values[n - 1])
    residual = x.double() - z @ decoder - pre_bias
    reconstruction = residual.square().mean()
    excitement = (x.double() - pre_bias.detach()) @ encoder.T + bias
    auxiliary = plain_auxiliary(excitement, residual, decoder, [2, 5, 7], at, k / sae.n_latents)
    assert_same_losses(sae, found, parameters, reconstruction + 0.5 * auxiliary, reconstruction)
    assert torch.equal(found.fired, (z > 0).any(dim=0))


@pytest.mark.parametrize("kind", ["batch_topk", "matryoshka"])
@pytest.mark.parametrize("ties", [False, True])
def test_a_batch_in_parts_selects_what_the_whole_batch_selects(kind, ties):
    config = SaeConfig(kind=kind, k=2, expansion=2, aux_coefficient=0)
    sae, x = random_sae(config), random_rows(20)
    if ties:
        x[10:] = x[:10]
    whole = config.variant.losses(sae, x, at_step(sae))
    whole.total.backward()
    expected = [parameter.grad.clone() for parameter in sae.parameters()]
    sae.zero_grad()
    parts = torch.split(x, 6)
    with torch.no_grad():
        prepared = config.variant.prepare_batch(sae, parts)
    n_fired = 0
    for part, cut in zip(parts, prepared, strict=True):
        at = at_step(sae)
        losses = config.variant.losses(sae, part, type(at)(at.step, at.n_steps, 0.0, 1, at.dead, at.n_dead, cut))
        (losses.total * part.shape[0] / x.shape[0]).backward()
        assert float(losses.note) == pytest.approx(float(whole.note))
        selection = sae.pre_activations(part) >= cut.least
        n_fired += int(selection.sum())
    assert n_fired >= 40 if ties else n_fired == 40
    for parameter, gradient in zip(sae.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["batch_topk", "matryoshka"])
def test_a_training_in_micro_batches_is_that_of_whole_batches(kind, rows):
    config = SHORT[kind].model_copy(update={"aux_coefficient": 0.0, "n_steps": 15})
    whole = train(config, rows, device=CPU)
    parts = train(config.model_copy(update={"part_rows": config.batch_size // 3}), rows, device=CPU)
    for name, tensor in whole.sae.to_tensors().items():
        torch.testing.assert_close(parts.sae.to_tensors()[name], tensor, rtol=1e-3, atol=1e-4)
    assert float(whole.sae.get_buffer("threshold")) > 0


def test_inference_fires_about_as_often_as_training(planted, as_rows):
    config = SaeConfig(kind="batch_topk", k=3, expansion=2, n_steps=300, batch_size=128, learning_rate=1e-2)
    trained = train(config, as_rows(planted(2000, 16, 24, 3, seed=100)[0]), device=CPU)
    assert trained.metrics.train_l0 == pytest.approx(3, rel=0.1)
    assert trained.metrics.l0 == pytest.approx(3, rel=0.1)
