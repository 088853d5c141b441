"""The losses of a step written as in the papers: dense, in float64, with autograd's gradients."""

import torch
from torch import Tensor

from hsae.sae.losses import StepLosses, TrainingStep
from hsae.sae.model import SparseAutoencoder

PARAMETERS = ("encoder_weight", "encoder_bias", "decoder_weight", "pre_bias")
N_ROWS, D_MODEL = 7, 6


def random_sae(config, seed=0, d_model=D_MODEL):
    """Weights at random, with directions of unit norm."""
    sae = SparseAutoencoder(config, d_model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.decoder_weight /= sae.decoder_weight.norm(dim=1, keepdim=True)  # type: ignore[misc]
        sae.encoder_bias -= 0.5  # type: ignore[misc]
    return sae


def random_rows(n_rows=N_ROWS, d_model=D_MODEL, seed=1):
    return torch.randn(n_rows, d_model, generator=torch.Generator().manual_seed(seed))


def at_step(sae, dead=(), k_aux=2) -> TrainingStep:
    """A step at which some latents are dead."""
    mask = torch.zeros(sae.n_latents, dtype=torch.bool)
    mask[list(dead)] = True
    return TrainingStep(0, 10, 0.5, k_aux, mask, int(mask.sum()))


def leaves(sae) -> list[Tensor]:
    """The parameters in the order of `PARAMETERS`, as float64 with gradients of their own."""
    return [getattr(sae, name).detach().double().requires_grad_() for name in PARAMETERS]


def plain_auxiliary(excitement, residual, directions, dead, at, firing_share):
    """AuxK of some dead latents, given how much each row excites every latent; only `excitement` is differentiated."""
    columns = excitement[:, dead]
    n_firing = min(max(1, round(firing_share * columns.shape[0])), columns.shape[0] - 1)
    lifted = columns - columns.detach().sort(dim=0, descending=True).values[n_firing]
    k = min(at.k_aux, len(dead))
    chosen = torch.zeros_like(lifted).scatter(1, lifted.topk(k, dim=1).indices, 1.0) * (lifted > 0)
    error = residual.detach() - (chosen * lifted) @ directions[dead]
    return error.square().sum() / residual.detach().square().sum()


def assert_same_losses(sae, found: StepLosses, parameters, total, reconstruction) -> None:
    """The losses and the gradients of every parameter."""
    torch.testing.assert_close(found.total.detach().double(), total.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.reconstruction.double(), reconstruction.detach(), rtol=1e-5, atol=1e-6)
    expected = torch.autograd.grad(total, parameters, allow_unused=True)
    gradients = torch.autograd.grad(found.total, [getattr(sae, name) for name in PARAMETERS], allow_unused=True)
    for name, right, gradient in zip(PARAMETERS, expected, gradients, strict=True):
        zero = torch.zeros_like(getattr(sae, name))
        torch.testing.assert_close(
            (zero if gradient is None else gradient).double(),
            zero.double() if right is None else right,
            rtol=1e-4,
            atol=1e-5,
            msg=f"gradient of {name}: {gradient} in place of {right}",
        )
