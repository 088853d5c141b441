"""Archetypal SAEs: directions stay near mixtures of the points, and gradients reach mixtures and deviations."""

import pytest
import torch
from tests.sae.small_trainings import CPU

from hsae.errors import UserError
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train

SETTINGS = {"kind": "archetypal", "k": 2, "expansion": 3, "n_steps": 40, "batch_size": 32, "learning_rate": 1e-2}


def directions_by_the_formula(mixture, points, relaxation):
    """d_j = unit(unit(W C)_j + Lambda_j), one latent and one point at a time."""
    found = []
    for j in range(mixture.shape[0]):
        mixed = sum(mixture[j, i] * points[i] for i in range(points.shape[0]))
        moved = mixed / mixed.norm() + relaxation[j]
        found.append(moved / moved.norm())
    return torch.stack(found)


def assert_as_promised(sae, delta):
    mixture, points, relaxation = sae.mixture.detach(), sae.points, sae.relaxation.detach()
    assert float(mixture.min()) >= 0
    torch.testing.assert_close(mixture.sum(dim=1), torch.ones(sae.n_latents))
    assert float(relaxation.norm(dim=1).max()) <= delta + 1e-6
    expected = directions_by_the_formula(mixture.double(), points.double(), relaxation.double())
    torch.testing.assert_close(sae.decoder_weight.detach().double(), expected, rtol=0, atol=1e-5)
    mixed = torch.nn.functional.normalize(mixture @ points)
    cosines = (mixed * sae.decoder_weight.detach()).sum(dim=1)
    assert float(cosines.min()) >= (1 - delta**2) ** 0.5 - 1e-5  # the sine of the angle is at most delta


@pytest.mark.parametrize("delta", [0.0, 0.1, 1.0])
def test_directions_are_mixtures_of_points_with_a_bounded_deviation(delta, rows):
    config = SaeConfig(**SETTINGS, delta=delta, n_points=12)
    before, trained = untrained_sae(config, rows), train(config, rows, device=CPU).sae
    assert_as_promised(before, 0.0)
    assert_as_promised(trained, delta)
    assert torch.equal(before.get_buffer("points"), trained.get_buffer("points"))
    assert not torch.equal(before.get_parameter("mixture"), trained.get_parameter("mixture"))
    assert bool(trained.get_parameter("relaxation").any()) == (delta > 0)


def test_points_are_centroids_of_the_rows_or_the_rows_themselves(rows):
    few = untrained_sae(SaeConfig(**SETTINGS, n_points=1), rows)
    scaled = few.scale_inputs(rows.activations) - few.pre_bias
    training = untrained_sae(SaeConfig(**SETTINGS, n_points=500), rows)
    n_train = 135  # nine tenths
    points = training.get_buffer("points")
    assert torch.equal(points[:n_train], points[n_train : 2 * n_train])
    distances = torch.cdist(points.double(), scaled.detach().double())
    assert float(distances.min(dim=1).values.max()) < 1e-4
    torch.testing.assert_close(few.get_buffer("points")[0], points[:n_train].mean(dim=0), atol=1e-4, rtol=0)


def test_the_gradient_goes_through_the_directions():
    config = SaeConfig(kind="archetypal", expansion=2, n_points=5, k=2)
    sae = SparseAutoencoder(config, 3)
    points, mixture, relaxation = (
        sae.get_buffer("points"),
        sae.get_parameter("mixture"),
        sae.get_parameter("relaxation"),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        points.copy_(torch.randn(5, 3, generator=generator))
        mixture.copy_(torch.rand(6, 5, generator=generator))
        relaxation.copy_(0.1 * torch.randn(6, 3, generator=generator))
    gradient = torch.randn(6, 3, generator=generator)
    leaves = [parameter.detach().double().requires_grad_() for parameter in (mixture, relaxation)]
    (directions_by_the_formula(leaves[0], points.double(), leaves[1]) * gradient).sum().backward()
    sae.decoder_weight.grad = gradient.clone()
    with torch.no_grad():
        config.variant.before_step(sae)
    assert not bool(sae.decoder_weight.grad.any())
    for parameter, leaf in zip((mixture, relaxation), leaves, strict=True):
        torch.testing.assert_close(parameter.grad, leaf.grad.float(), rtol=1e-4, atol=1e-5)


def test_its_directions_cannot_be_resampled():
    with pytest.raises(
        UserError, match="which kind archetypal does not allow: leave it out or choose kind .*gated, jumprelu"
    ):
        SaeConfig(kind="archetypal", dead_latents="resample")
