"""Matching pursuit: encoding by hand, losses by the formula, one dictionary for both directions."""

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
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train


def test_encoding_by_hand():
    config = SaeConfig(kind="matching_pursuit", k=2, expansion=2)
    sae = SparseAutoencoder(config, 2)
    with torch.no_grad():
        sae.decoder_weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]]))
        sae.pre_bias.copy_(torch.tensor([1.0, 1.0]))
    # (3, 4) is 5 times the third direction. (2, 0): the first; nothing is left. (-3, 1): the fourth, then the second.
    # (1, -2): the first takes 1, then all that is left is against every direction.
    x = torch.tensor([[3.0, 4.0], [2.0, 0.0], [-3.0, 1.0], [1.0, -2.0]]) + 1.0
    expected = torch.tensor([[0.0, 0, 5, 0], [2, 0, 0, 0], [0, 1, 0, 3], [1, 0, 0, 0]])
    torch.testing.assert_close(sae.encode(x), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("k", [1, 3, 12])
def test_losses_and_gradients_are_those_of_the_formula(k):
    config = SaeConfig(kind="matching_pursuit", k=k, expansion=2)
    sae, x = random_sae(config), random_rows()
    at = at_step(sae, dead=(2, 5, 7))
    found = config.variant.losses(sae, x, at)

    _, _, decoder, pre_bias = parameters = leaves(sae)
    residual = x.double() - pre_bias
    z = torch.zeros(x.shape[0], sae.n_latents, dtype=torch.float64)
    for _ in range(k):
        products = residual @ decoder.T
        best = products.argmax(dim=1)
        taken = products.gather(1, best[:, None]).relu() * torch.nn.functional.one_hot(best, sae.n_latents)
        z, residual = z + taken, residual - taken @ decoder
    reconstruction = residual.square().mean()
    excitement = residual.detach() @ decoder.T
    auxiliary = plain_auxiliary(excitement, residual, decoder, [2, 5, 7], at, k / sae.n_latents)
    assert_same_losses(sae, found, parameters, reconstruction + 0.5 * auxiliary, reconstruction)
    assert torch.equal(found.fired, (z > 0).any(dim=0))
    with torch.no_grad():
        torch.testing.assert_close(config.variant.encode(sae, x).double(), z.detach(), rtol=1e-4, atol=1e-5)


def test_the_encoder_is_the_dictionary(rows):
    config = SHORT["matching_pursuit"]
    for sae in (untrained_sae(config, rows), train(config, rows, device=CPU).sae):
        assert torch.equal(sae.encoder_weight, sae.decoder_weight)
        assert not sae.encoder_bias.any()


def test_a_training_in_micro_batches_is_that_of_whole_batches(rows):
    config = SHORT["matching_pursuit"].model_copy(update={"aux_coefficient": 0.0, "n_steps": 15})
    whole = train(config, rows, device=CPU)
    parts = train(config.model_copy(update={"part_rows": config.batch_size // 3}), rows, device=CPU)
    for name, tensor in whole.sae.to_tensors().items():
        torch.testing.assert_close(parts.sae.to_tensors()[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_activation_of_a_latent_has_a_gradient_for_maps():
    sae = random_sae(SaeConfig(kind="matching_pursuit", k=3, expansion=2))
    x = random_rows().requires_grad_()
    sae.encode(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert x.grad.any()
