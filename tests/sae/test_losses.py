"""Losses against a slow version, at the edge of their definitions, and whom the auxiliary loss moves."""

import math
from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.examples import examples
from tests.sae.step_losses import step_losses

from hsae.sae.config import SaeConfig, initial_l0
from hsae.sae.model import SparseAutoencoder

D_MODEL, N_ROWS = 6, 10
PARAMETERS = ("encoder_weight", "encoder_bias", "decoder_weight", "pre_bias")


def random_sae(config: SaeConfig, seed: int = 0) -> SparseAutoencoder:
    sae = SparseAutoencoder(config, D_MODEL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.decoder_weight /= sae.decoder_weight.norm(dim=1, keepdim=True)  # type: ignore[misc]
        sae.encoder_bias -= 1.0  # type: ignore[misc]
    return sae


def test_the_auxiliary_loss_moves_dead_latents_only():
    sae = random_sae(SaeConfig(expansion=4))
    x = torch.randn(N_ROWS, D_MODEL, generator=torch.Generator().manual_seed(1))
    dead = torch.zeros(sae.n_latents, dtype=torch.bool)
    dead[3] = True
    with_aux = step_losses(sae, x, l1_weight=0.1, aux_coefficient=1.0, k_aux=4, dead=dead)
    without = step_losses(sae, x, l1_weight=0.1, aux_coefficient=0.0, k_aux=4, dead=dead)
    parameters = list(sae.parameters())
    difference = [
        a - b
        for a, b in zip(
            torch.autograd.grad(with_aux.total, parameters),
            torch.autograd.grad(without.total, parameters),
            strict=True,
        )
    ]
    for gradient in difference[:3]:
        assert gradient[3].any()
        gradient[3] = 0
    for gradient in difference:
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_a_batch_of_one_row_and_a_perfect_reconstruction():
    sae = random_sae(SaeConfig(expansion=4))
    dead = torch.ones(sae.n_latents, dtype=torch.bool)
    with torch.no_grad():
        sae.encoder_bias.fill_(-100.0)
    losses = step_losses(sae, sae.pre_bias.detach()[None], l1_weight=0.1, aux_coefficient=1.0, k_aux=4, dead=dead)
    assert torch.isfinite(losses.auxiliary)
    assert float(losses.reconstruction) == 0.0


def any_sae(config: SaeConfig, d_model: int, seed: int, *, on_a_grid: bool = False) -> SparseAutoencoder:
    """Any numbers; `on_a_grid`: such that pre-activations are exact in float32 and often tie."""
    sae = SparseAutoencoder(config, d_model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if on_a_grid:
                parameter.copy_((2 * parameter).round() / 2)
        sae.input_scale.fill_(0.5)
    return sae


def config_of(kind: str, k: int) -> SaeConfig:
    return SaeConfig(kind="topk", k=k, expansion=3) if kind == "topk" else SaeConfig(expansion=3)


def naive_top(values: list[float], k: int) -> list[int]:
    """The k largest that are positive; the lower number among equals."""
    return [j for j in sorted(range(len(values)), key=lambda j: (-values[j], j))[:k] if values[j] > 0]


def naive_losses(sae, x_scaled, *, l1_weight, aux_coefficient, k_aux, dead):
    """One row and one latent at a time, in float64: (total, reconstruction, sparsity, auxiliary, fired, gradients)."""
    leaves = {name: getattr(sae, name).detach().double().requires_grad_() for name in PARAMETERS}
    encoder, bias, decoder, pre_bias = (leaves[name] for name in PARAMETERS)
    x_scaled = x_scaled.double()
    n_rows, d_model = x_scaled.shape
    zero = torch.zeros((), dtype=torch.float64)
    squares, lengths, residuals, fired = zero, zero, [], torch.zeros(sae.n_latents, dtype=torch.bool)
    for x in x_scaled:
        pre = [encoder[j] @ (x - pre_bias) + bias[j] for j in range(sae.n_latents)]
        k = sae.config.variant.k if sae.config.kind == "topk" else sae.n_latents
        x_hat = pre_bias
        for j in naive_top([float(p.detach()) for p in pre], k):
            x_hat = x_hat + pre[j] * decoder[j]
            lengths = lengths + pre[j]
            fired[j] = True
        residuals.append((x - x_hat).detach())
        squares = squares + (x - x_hat).square().sum()
    reconstruction = squares / n_rows / d_model
    sparsity = lengths / n_rows / math.sqrt(d_model)
    total = reconstruction + l1_weight * sparsity
    auxiliary = zero
    numbers = [j for j in range(sae.n_latents) if dead[j]]
    if aux_coefficient > 0 and numbers:
        excitement = {j: [encoder[j] @ (x - pre_bias).detach() + bias[j] for x in x_scaled] for j in numbers}
        n_firing = min(max(1, round(initial_l0(sae.config, d_model) / sae.n_latents * n_rows)), n_rows - 1)
        for j in numbers:
            ranked = sorted((float(e.detach()) for e in excitement[j]), reverse=True)
            lift = ranked[n_firing] if n_firing else ranked[-1] - 1
            excitement[j] = [e - lift for e in excitement[j]]
        error = zero
        for i, residual in enumerate(residuals):
            e_hat = torch.zeros(d_model, dtype=torch.float64)
            for place in naive_top([float(excitement[j][i].detach()) for j in numbers], k_aux):
                e_hat = e_hat + excitement[numbers[place]][i] * decoder[numbers[place]]
            error = error + (residual - e_hat).square().sum()
        auxiliary = error / sum(float(residual.square().sum()) for residual in residuals)
        total = total + aux_coefficient * auxiliary
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return total, reconstruction, sparsity, auxiliary, fired, dict(zip(PARAMETERS, gradients, strict=True))


@examples(60)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["relu", "topk"]),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 4)),
    k=st.integers(1, 3),
    k_aux=st.integers(1, 4),
    dead_share_drawn=st.sampled_from([0.0, 0.5, 1.0]),
    weights=st.sampled_from([(0.0, 0.0), (0.7, 0.0), (0.7, 0.25), (0.0, 1.0)]),
)
def test_losses_and_gradients_equal_the_naive_ones(seed, kind, shape, k, k_aux, dead_share_drawn, weights):
    n_rows, d_model = shape
    sae = any_sae(config_of(kind, k), d_model, seed, on_a_grid=True)
    generator = torch.Generator().manual_seed(seed + 1)
    x_scaled = (2 * torch.randn(n_rows, d_model, generator=generator)).round() / 2
    dead = torch.rand(sae.n_latents, generator=generator) < dead_share_drawn
    l1_weight = weights[0] if kind == "relu" else 0.0
    arguments = {"l1_weight": l1_weight, "aux_coefficient": weights[1], "k_aux": k_aux, "dead": dead}
    with torch.no_grad():
        z = sae.encode(x_scaled / sae.input_scale)
        assume(float((x_scaled - sae.scale_inputs(sae.decode(z))).square().sum()) > 1e-3)

    found = step_losses(sae, x_scaled, **arguments)
    *expected, fired, gradients = naive_losses(sae, x_scaled, **arguments)
    terms = [found.total, found.reconstruction, found.sparsity, found.auxiliary]
    for term, value in zip(terms, expected, strict=True):
        torch.testing.assert_close(term.detach().double(), value.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.fired, fired)
    found.total.backward()
    for name, gradient in gradients.items():
        blank = torch.zeros_like(getattr(sae, name))
        actual = getattr(sae, name).grad
        torch.testing.assert_close(
            blank if actual is None else actual,
            blank if gradient is None else gradient.float(),
            rtol=1e-4,
            atol=1e-4,
            msg=lambda text, name=name: f"gradient of {name}: {text}",  # type: ignore[misc]
        )


def test_losses_where_few_entries_are_positive():
    # 1 of 48 latents fires: the path through sparse products, which the small shapes above do not take.
    sae = any_sae(SaeConfig(kind="topk", k=1, expansion=12), 4, 0)
    x_scaled = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    dead = torch.arange(sae.n_latents) >= 40
    arguments: dict[str, Any] = {"l1_weight": 0.0, "aux_coefficient": 0.5, "k_aux": 2, "dead": dead}
    found = step_losses(sae, x_scaled, **arguments)
    total, _, _, auxiliary, fired, gradients = naive_losses(sae, x_scaled, **arguments)
    torch.testing.assert_close(found.total.detach().double(), total.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.auxiliary.double(), auxiliary.detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.fired, fired)
    found.total.backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(getattr(sae, name).grad, gradient.float(), rtol=1e-4, atol=1e-4)
