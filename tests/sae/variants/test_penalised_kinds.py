"""JumpReLU and gated SAEs: encoding by hand, and gradients against the papers' formulas written out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples

from hsae.errors import UserError
from hsae.sae.config import SaeConfig, initial_l0
from hsae.sae.kernels.jump import jump_relu, step
from hsae.sae.losses import TrainingStep
from hsae.sae.model import SparseAutoencoder


def on_a_grid(config: SaeConfig, d_model: int, seed: int) -> SparseAutoencoder:
    """Halves and quarters, so that pre-activations are exact and often lie at thresholds and window edges."""
    sae = SparseAutoencoder(config, d_model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_((2 * torch.randn(parameter.shape, generator=generator)).round() / 2)
            if name == "tenth_log_threshold":  # thresholds .5, 1 and 2
                parameter.copy_(torch.randint(-1, 2, parameter.shape, generator=generator) * math.log(2) / 10)
    return sae


def at_last_step(sae: SparseAutoencoder, aux_coefficient: float = 0.0, dead=()) -> TrainingStep:
    flags = torch.zeros(sae.n_latents, dtype=torch.bool)
    flags[list(dead)] = True
    return TrainingStep(99, 100, aux_coefficient, 2, flags, int(flags.sum()))


def doubles(sae):
    return {name: p.detach().double().requires_grad_() for name, p in sae.named_parameters()}


def compare(sae, losses, expected, gradients):
    for found, value in zip((losses.total, losses.reconstruction, losses.sparsity), expected, strict=True):
        torch.testing.assert_close(found.detach().double(), value.detach(), rtol=1e-5, atol=1e-6)
    losses.total.backward()
    for name, parameter in sae.named_parameters():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(
            found.double(),
            gradients[name],
            rtol=1e-4,
            atol=1e-4,
            msg=lambda text, name=name: f"gradient of {name}: {text}",  # type: ignore[misc]
        )


def jumprelu_by_the_paper(sae, x, weight):
    """Entry by entry: losses, and gradients by the pseudo-derivatives (equations 11 and 12)."""
    variant, p = sae.config.variant, doubles(sae)
    n_rows, d_model = x.shape
    threshold = variant.thresholds(sae).detach().double()
    pre = (x.double() - p["pre_bias"]) @ p["encoder_weight"].T + p["encoder_bias"]
    above = (pre.detach().float() > threshold.float()).double()
    z = pre * above
    z.retain_grad()
    reconstruction = (x.double() - z @ p["decoder_weight"] - p["pre_bias"]).square().sum() / n_rows / d_model
    of_entries = above if variant.penalty == "l0" else torch.tanh(4 * z)
    sparsity = of_entries.sum() / n_rows
    total = reconstruction + weight * sparsity
    total.backward()
    gradient = torch.zeros(sae.n_latents, dtype=torch.float64)
    epsilon = variant.bandwidth
    for b in range(n_rows):
        for j in range(sae.n_latents):
            distance = float(pre[b, j].detach() - threshold[j].float())
            if abs(distance) < epsilon / 2 and float(pre[b, j].detach()) > 0:
                gradient[j] += float(z.grad[b, j]) * -float(threshold[j]) / epsilon
                if variant.penalty == "l0":
                    gradient[j] += weight / n_rows * -1 / epsilon
    gradients = {name: torch.zeros_like(v) if v.grad is None else v.grad for name, v in p.items()}
    gradients["tenth_log_threshold"] = 10 * gradient * threshold
    return (total, reconstruction, sparsity), gradients


@examples(40)
@given(
    seed=st.integers(0, 2**31),
    penalty=st.sampled_from(["l0", "tanh"]),
    bandwidth=st.sampled_from([0.4, 1.4, 5.0]),  # no window's edge is on the grid
    shape=st.tuples(st.integers(1, 6), st.integers(1, 4)),
)
def test_jumprelu_losses_and_gradients_are_those_of_the_paper(seed, penalty, bandwidth, shape):
    config = SaeConfig(kind="jumprelu", expansion=3, penalty=penalty, bandwidth=bandwidth, l0_coefficient=0.7)
    sae = on_a_grid(config, shape[1], seed)
    x = (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))).round() / 2
    losses = config.variant.losses(sae, x, at_last_step(sae))
    expected, gradients = jumprelu_by_the_paper(sae, x, 0.7)
    compare(sae, losses, expected, gradients)
    assert torch.equal(losses.fired, (config.variant.encode(sae, x) > 0).any(dim=0))


def gated_by_the_paper(sae, x, weight):
    """Autograd of the plain formula: dense products, and `detach` for what no gradient reaches."""
    p = doubles(sae)
    n_rows, d_model = x.shape
    centred = x.double() - p["pre_bias"]
    gate = centred @ p["encoder_weight"].T + p["encoder_bias"]
    scaled = p["log_magnitude_scale"].exp()[:, None] * p["encoder_weight"]
    magnitude = (centred @ scaled.T + p["magnitude_bias"]).relu()
    z = (gate.detach() > 0) * magnitude
    reconstruction = (x.double() - z @ p["decoder_weight"] - p["pre_bias"]).square().sum() / n_rows / d_model
    by_gate = gate.relu() @ p["decoder_weight"].detach() + p["pre_bias"].detach()
    sparsity = gate.relu().sum() / n_rows / math.sqrt(d_model)
    total = reconstruction + weight * sparsity + (x.double() - by_gate).square().sum() / n_rows / d_model
    total.backward()
    gradients = {name: torch.zeros_like(v) if v.grad is None else v.grad for name, v in p.items()}
    return (total, reconstruction, sparsity), gradients


@examples(40)
@given(st.integers(0, 2**31), st.tuples(st.integers(1, 6), st.integers(1, 4)))
def test_gated_losses_and_gradients_are_those_of_the_paper(seed, shape):
    config = SaeConfig(kind="gated", expansion=3, l1_coefficient=0.7)
    sae = on_a_grid(config, shape[1], seed)
    x = (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed + 1))).round() / 2
    losses = config.variant.losses(sae, x, at_last_step(sae))
    expected, gradients = gated_by_the_paper(sae, x, 0.7)
    compare(sae, losses, expected, gradients)
    assert torch.equal(losses.fired, (config.variant.encode(sae, x) > 0).any(dim=0))


@pytest.mark.parametrize("kind", ["jumprelu", "gated"])
def test_the_auxiliary_loss_moves_dead_latents_alone(kind):
    config = SaeConfig(kind=kind, expansion=3)
    sae = on_a_grid(config, 4, 3)
    with torch.no_grad():
        sae.encoder_bias[5] = -50.0
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    names = ("encoder_weight", "encoder_bias", "decoder_weight")
    parameters = [getattr(sae, name) for name in names]
    gradients = [
        torch.autograd.grad(config.variant.losses(sae, x, at_last_step(sae, weight, [5])).total, parameters)
        for weight in (0.0, 0.5)
    ]
    for without, with_aux in zip(*gradients, strict=True):
        difference = with_aux - without
        assert bool(difference[5].any())
        difference[5] = 0
        torch.testing.assert_close(difference, torch.zeros_like(difference), atol=1e-5, rtol=0)


def test_jump_and_step_by_hand():
    pre = torch.tensor([-1.0, 0.9, 1.0, 1.1, 3.0], requires_grad=True)
    threshold = torch.full((5,), 1.0, requires_grad=True)
    assert jump_relu(pre, threshold, 0.5).tolist() == pytest.approx([0, 0, 0, 1.1, 3.0])
    assert step(pre, threshold, 0.5).tolist() == [0, 0, 0, 1, 1]
    of_pre, of_threshold = torch.autograd.grad(jump_relu(pre, threshold, 0.5).sum(), (pre, threshold))
    assert of_pre.tolist() == [0, 0, 0, 1, 1]
    assert of_threshold.tolist() == [0, -2, -2, -2, 0]  # -threshold / bandwidth within a quarter of the threshold
    (of_threshold,) = torch.autograd.grad(step(pre, threshold, 0.5).sum(), threshold)
    assert of_threshold.tolist() == [0, -2, -2, -2, 0]


def test_encoding_by_hand():
    x = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.5, -1.0]])
    jump = SparseAutoencoder(SaeConfig(kind="jumprelu", expansion=1), 2)
    gated = SparseAutoencoder(SaeConfig(kind="gated", expansion=1), 2)
    with torch.no_grad():
        for sae in (jump, gated):
            sae.encoder_weight.copy_(torch.eye(2))
            sae.encoder_bias.copy_(torch.tensor([0.0, -0.5]))
        jump.tenth_log_threshold.copy_(torch.tensor([1.0, 1.75]).log() / 10)  # type: ignore[operator]
        gated.log_magnitude_scale.copy_(torch.tensor([2.0, 1.0]).log())  # type: ignore[operator]
        gated.magnitude_bias.copy_(torch.tensor([0.0, -3.0]))  # type: ignore[operator]
        assert jump.encode(x).tolist() == [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]  # 1.5 is below its threshold
        # Latent 0: twice x where x > 0. Latent 1: the gate opens for the second row, but the magnitude is 2 - 3.
        torch.testing.assert_close(gated.encode(x), torch.tensor([[4.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l0_coefficient": 1, "target_l0": 2}, "l0_coefficient and target_l0 cannot be given together"),
        ({"penalty": "l2"}, "penalty 'l2' is not valid: input should be 'l0' or 'tanh'"),
        ({"bandwidth": 0}, "bandwidth 0 is out of range: choose more than 0"),
        ({"l1_coefficient": 1}, "l1_coefficient does not apply to a jumprelu SAE: .* choose kind gated or relu"),
    ],
)
def test_mistakes_in_settings(settings, message):
    with pytest.raises(UserError, match=message):
        SaeConfig(kind="jumprelu", **settings)


def test_a_target_takes_the_place_of_the_coefficient():
    config = SaeConfig(kind="jumprelu", target_l0=6)
    assert "l0_coefficient" not in config.model_dump()
    assert SaeConfig.parse(config.model_dump()) == config
    assert initial_l0(config, 16) == 6
    sae = SparseAutoencoder(config, 16)
    assert set(config.variant.own_buffers(1, 1)) == {"l0_coefficient", "last_l0"}
    assert config.variant.own_metrics(sae, 6.5)["reached_target_l0"] is True
