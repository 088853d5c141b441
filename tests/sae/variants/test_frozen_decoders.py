"""The baselines whose decoder is not, or hardly, trained."""

import pytest
import torch
from tests.sae.small_trainings import CPU

from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.sae.training.initialisation import untrained_sae
from hsae.sae.training.trainer import train
from hsae.sae.variants.variant import StepDone

SETTINGS = {"k": 3, "expansion": 2, "n_steps": 400, "batch_size": 128, "learning_rate": 1e-2}


@pytest.fixture
def planted_rows(planted, as_rows):
    activations, directions = planted(2000, 16, 24, 3, seed=100)
    return as_rows(activations), directions


def test_a_frozen_decoder_keeps_its_bits_and_the_encoder_learns(planted_rows):
    rows, _ = planted_rows
    config = SaeConfig(kind="frozen", **SETTINGS)
    trained, before = train(config, rows, device=CPU), untrained_sae(config, rows)
    assert torch.equal(trained.sae.decoder_weight, before.decoder_weight)
    for name in ("encoder_weight", "encoder_bias", "pre_bias"):
        assert not torch.equal(getattr(trained.sae, name), getattr(before, name)), name
    assert (
        set(trained.sae.to_tensors())
        == set(before.to_tensors())
        == set(SparseAutoencoder(SaeConfig(kind="topk"), 16).to_tensors())
    )


@pytest.mark.parametrize("min_cosine", [0.5, 0.8, 0.95])
def test_a_soft_frozen_decoder_goes_to_the_edge_and_not_beyond(min_cosine, planted_rows):
    rows, _ = planted_rows
    config = SaeConfig(kind="soft_frozen", min_cosine=min_cosine, **SETTINGS)
    trained, before = train(config, rows, device=CPU), untrained_sae(config, rows)
    assert torch.equal(trained.sae.initial_directions, before.decoder_weight)  # type: ignore[arg-type]
    cosines = (trained.sae.decoder_weight * before.decoder_weight).sum(dim=1).detach()
    assert float(cosines.min()) >= min_cosine - 1e-5
    assert float(cosines.min()) < min_cosine + 1e-3
    torch.testing.assert_close(trained.sae.decoder_weight.norm(dim=1), torch.ones(32), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_the_less_a_decoder_may_learn_the_less_it_finds(planted_rows):
    rows, directions = planted_rows
    configs = [
        SaeConfig(kind="frozen", **SETTINGS),
        SaeConfig(kind="soft_frozen", **SETTINGS),
        SaeConfig(kind="topk", **SETTINGS),
    ]
    results = [train(config, rows, device=CPU) for config in configs]
    found = [float((directions @ r.sae.decoder_weight.detach().T).max(dim=1).values.mean()) for r in results]
    assert found == sorted(found)
    assert found[0] < 0.7
    assert found[2] > 0.9
    fvu = [r.metrics.fvu for r in results]
    assert fvu == sorted(fvu, reverse=True)
    assert fvu[0] < 0.9  # the encoder alone reconstructs something
    assert all(r.metrics.l0 <= 3 for r in results)


@pytest.mark.parametrize("kind", ["frozen", "soft_frozen"])
def test_latents_of_a_dictionary_that_is_their_own_are_recovered(kind, planted, as_rows):
    """A frozen decoder finds no other directions. Where the rows are made of its own, the encoder finds the codes."""
    config = SaeConfig(kind=kind, **SETTINGS | {"expansion": 1, "n_steps": 800})
    directions = untrained_sae(config, as_rows(planted(2000, 16, 24, 3)[0])).decoder_weight.detach()
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(2000, 16, generator=generator).argsort(dim=1)[:, :3]
    codes = torch.zeros(2000, 16).scatter_(1, chosen, 0.5 + torch.rand(2000, 3, generator=generator))
    rows = as_rows(codes @ directions + torch.randn(16, generator=generator))
    trained, before = train(config, rows, device=CPU).sae, untrained_sae(config, rows)

    def mean_correlation(sae):
        z = sae.encode(rows.activations).detach()
        both = torch.stack([torch.corrcoef(torch.stack([z[:, j], codes[:, j]]))[0, 1] for j in range(16)])
        return float(both.nan_to_num().mean())

    assert mean_correlation(trained) > 0.9 > mean_correlation(before)
    assert ((trained.decoder_weight * directions).sum(dim=1) > 0.97).all()


def nearest_within(first, direction, min_cosine):
    """The direction turned towards `first`, by bisection over the arc between them, until the cosine is allowed."""
    if float(first @ direction) >= min_cosine:
        return direction
    low, high = 0.0, 1.0  # share of the arc from `first`
    angle = torch.arccos(first @ direction)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(torch.cos(middle * angle)) >= min_cosine else (low, middle)
    return (torch.sin((1 - low) * angle) * first + torch.sin(low * angle) * direction) / torch.sin(angle)


@pytest.mark.parametrize("min_cosine", [-0.5, 0.0, 0.8, 0.99])
def test_directions_outside_the_cone_go_to_the_nearest_inside(min_cosine):
    config = SaeConfig(kind="soft_frozen", min_cosine=min_cosine, k=2)
    sae = SparseAutoencoder(config, 4)
    generator = torch.Generator().manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(32, 4, generator=generator))
    moved = torch.nn.functional.normalize(torch.randn(32, 4, generator=generator))
    moved[0] = first[0]
    with torch.no_grad():
        sae.decoder_weight.copy_(first)
        config.variant.initialise(sae)
        sae.decoder_weight.copy_(3 * moved)  # of any length
        config.variant.after_step(sae, StepDone(0, 1, 1.0, lambda: torch.zeros(())))
    expected = torch.stack(
        [nearest_within(f, m, min_cosine) for f, m in zip(first.double(), moved.double(), strict=True)]
    )
    torch.testing.assert_close(sae.decoder_weight.detach().double(), expected, atol=2e-6, rtol=0)


def test_the_opposite_of_a_first_direction_comes_back_to_it():
    config = SaeConfig(kind="soft_frozen", k=2)
    sae = SparseAutoencoder(config, 4)
    with torch.no_grad():
        sae.decoder_weight[:, 1] = 1
        config.variant.initialise(sae)
        sae.decoder_weight.neg_()
        config.variant.after_step(sae, StepDone(0, 1, 1.0, lambda: torch.zeros(())))
    assert torch.equal(sae.decoder_weight.detach(), sae.initial_directions)  # type: ignore[arg-type]
