"""Quality figures against the definitions in numpy."""

import numpy as np
import pytest
import torch

from hsae.sae.config import SaeConfig
from hsae.sae.evaluation.metrics import dead_share, measure_reconstruction
from hsae.sae.model import SparseAutoencoder
from hsae.sae.rows.source import TrainingRows
from hsae.sae.rows.split import split_rows

CPU = torch.device("cpu")


def make_sae() -> SparseAutoencoder:
    sae = SparseAutoencoder(SaeConfig(expansion=4), 5)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        sae.encoder_bias[3] = -1e6
        sae.input_scale.fill_(0.5)
    return sae


def test_equals_the_definitions():
    sae = make_sae()
    n_rows = 5_000  # more than one batch
    activations = 3 * torch.randn(n_rows, 5, generator=torch.Generator().manual_seed(1)) + 1
    index = torch.arange(n_rows)
    rows = TrainingRows(activations, (index // 2).int(), (index % 2).short())
    positions = torch.arange(10, n_rows, 2)
    found = measure_reconstruction(sae, rows, positions, CPU)
    x = activations[positions].double().numpy()
    with torch.no_grad():
        z = sae.encode(activations[positions]).numpy()
        x_hat = sae(activations[positions]).double().numpy()
    cosine = (x * x_hat).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(x_hat, axis=1)
    np.testing.assert_allclose(found.fvu, ((x - x_hat) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(found.cosine, cosine.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.l0, (z > 0).sum(axis=1).mean())
    np.testing.assert_allclose(found.l1, z.sum(axis=1).mean(), rtol=1e-5)
    np.testing.assert_allclose(found.dead_share, 1 - (z > 0).any(axis=0).mean(), rtol=1e-6)
    assert found.n_rows == len(positions)

    split = split_rows(rows, holdout_share=0.1, seed=0)
    with torch.no_grad():
        fires = (sae.encode(activations[index % 2 == 0]) > 0).any(dim=0)
    assert not fires[3]
    np.testing.assert_allclose(dead_share(sae, rows, split, CPU), 1 - fires.float().mean(), rtol=1e-6)


def test_dead_share_ignores_augmented_views():
    sae = SparseAutoencoder(SaeConfig(expansion=1), 2)
    with torch.no_grad():
        sae.encoder_weight.copy_(torch.eye(2))
    rows = TrainingRows(
        torch.tensor([[1.0, -1.0], [-1.0, 1.0], [2.0, -1.0]]), torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    )
    assert dead_share(sae, rows, split_rows(rows, holdout_share=0, seed=0), CPU) == 0.5


def test_rows_that_do_not_vary_have_no_fvu():
    rows = TrainingRows(torch.ones(3, 5), torch.arange(3), torch.zeros(3, dtype=torch.int16))
    assert measure_reconstruction(make_sae(), rows, torch.tensor([1]), CPU).fvu is None


def test_fvu_of_the_mean_is_1_of_perfection_0_and_of_equal_rows_undefined():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    everything = torch.arange(30)

    def fvu(sae, activations):
        index = torch.arange(30)
        return measure_reconstruction(sae, TrainingRows(activations, index, 0 * index), everything, CPU).fvu

    sae = SparseAutoencoder(SaeConfig(expansion=2), 4)
    with torch.no_grad():
        sae.pre_bias.copy_(x.mean(dim=0))
    assert fvu(sae, x) == pytest.approx(1)
    assert fvu(sae, torch.full((30, 4), 0.1)) is None
    with torch.no_grad():  # one latent for either direction of every axis
        both_ways = torch.cat([torch.eye(4), -torch.eye(4)])
        sae.encoder_weight.copy_(both_ways)
        sae.decoder_weight.copy_(both_ways)
    assert fvu(sae, x) < 1e-12
