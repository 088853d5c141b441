"""Whom the auxiliary loss moves, and losses at the edge of their definitions."""

import torch
from tests.sae.step_losses import step_losses

from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

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
