"""The losses and their gradients against loops written from the definitions."""

import math

import pytest
import torch

from hsae.sae import SaeConfig, SparseAutoencoder
from hsae.sae.config import initial_l0
from hsae.sae.losses import step_losses

D_MODEL, N_ROWS = 6, 10


def random_sae(config: SaeConfig, seed: int = 0) -> SparseAutoencoder:
    sae = SparseAutoencoder(config, D_MODEL)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.decoder_weight /= sae.decoder_weight.norm(dim=1, keepdim=True)
        sae.encoder_bias -= 1.0
    return sae


def naive_terms(sae, x, dead, k_aux):
    """(reconstruction, sparsity, auxiliary), row by row and latent by latent, through autograd."""
    pre = torch.stack([sae.encoder_weight @ (row - sae.pre_bias) + sae.encoder_bias for row in x])
    reconstruction = sparsity = 0.0
    residuals = []
    for b in range(x.shape[0]):
        active = [j for j in range(sae.n_latents) if pre[b, j] > 0]
        if sae.config.kind == "topk":
            active = sorted(active, key=lambda j: -float(pre[b, j].detach()))[: sae.config.k]
        x_hat = sae.pre_bias
        for j in active:
            x_hat = x_hat + pre[b, j] * sae.decoder_weight[j]
            sparsity = sparsity + pre[b, j]
        reconstruction = reconstruction + (x[b] - x_hat).square().sum()
        residuals.append((x[b] - x_hat).detach())
    n_rows, d_model = x.shape
    auxiliary, energy = 0.0, sum(float(e.square().sum()) for e in residuals)
    dead_latents = torch.nonzero(dead).flatten().tolist()
    n_firing = min(max(1, round(initial_l0(sae.config, d_model) / sae.n_latents * n_rows)), n_rows - 1)
    centred = (x - sae.pre_bias).detach()
    for b in range(n_rows):
        lifted, firing = {}, {}
        for j in dead_latents:
            threshold = sorted(pre[:, j].tolist(), reverse=True)[n_firing]
            lifted[j] = centred[b] @ sae.encoder_weight[j] + sae.encoder_bias[j] - threshold
            if float(pre[b, j].detach()) > threshold:
                firing[j] = float(pre[b, j].detach()) - threshold
        best = sorted(firing, key=lambda j: -firing[j])[:k_aux]
        e_hat = sum((lifted[j] * sae.decoder_weight[j] for j in best), torch.zeros(d_model))
        auxiliary = auxiliary + (residuals[b] - e_hat).square().sum() / energy
    return reconstruction / (n_rows * d_model), sparsity / (n_rows * math.sqrt(d_model)), auxiliary


@pytest.mark.parametrize("n_dead", [0, 1, 7])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "config", [SaeConfig(expansion=4), SaeConfig(kind="topk", k=3, expansion=4)], ids=["relu", "topk"]
)
def test_equals_the_definitions(config, seed, n_dead):
    sae = random_sae(config, seed)
    x = torch.randn(N_ROWS, D_MODEL, generator=torch.Generator().manual_seed(seed + 10))
    dead = torch.zeros(sae.n_latents, dtype=torch.bool)
    dead[5 : 5 + n_dead] = True
    l1_weight = 0.7 if config.kind == "relu" else 0.0
    losses = step_losses(sae, x, l1_weight=l1_weight, aux_coefficient=0.5, k_aux=2, dead=dead)
    reconstruction, sparsity, auxiliary = naive_terms(sae, x, dead, k_aux=2)
    if n_dead == 0:
        auxiliary = torch.zeros(())
    torch.testing.assert_close(losses.reconstruction, reconstruction.detach())
    torch.testing.assert_close(losses.sparsity, sparsity.detach())
    torch.testing.assert_close(losses.auxiliary, auxiliary.detach())
    total = reconstruction + l1_weight * sparsity + 0.5 * auxiliary
    torch.testing.assert_close(losses.total, total)
    parameters = list(sae.parameters())
    found = torch.autograd.grad(losses.total, parameters)
    expected = torch.autograd.grad(total, parameters)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert torch.equal(losses.fired, (sae.encode(x) > 0).any(dim=0))


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
