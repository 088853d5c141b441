"""What ablation takes from the embedding: against one latent and image at a time, and where it is known."""

import numpy as np
import pytest
import torch
from tests.interventions.planted import D_MODEL, NODE, UNUSED, UsesAllButOne, identity_sae

from hsae.interventions.edits import TokenPlaces
from hsae.text.effects import EffectOf, Effects, EmbeddedPass, add_effects

READ = torch.nn.functional.normalize(torch.randn(D_MODEL, 5, generator=torch.Generator().manual_seed(1)), dim=0)


def embed(stream):
    return stream[:, 0] @ READ


@pytest.fixture(scope="module")
def stream():
    return torch.randn(3, 4, D_MODEL, generator=torch.Generator().manual_seed(0)).abs() + 0.1


@pytest.mark.parametrize(
    "places", [TokenPlaces((0,)), TokenPlaces((1, 2, 3)), TokenPlaces((1, 2, 3), as_mean=True)], ids=str
)
def test_effects_are_those_of_one_ablation_at_a_time(stream, places):
    sae, blocks = identity_sae(), UsesAllButOne()
    pairs = [EffectOf(row, latent, latent) for row in range(3) for latent in (NODE, UNUSED, 4) if row or latent != 4]
    found = Effects(5)
    add_effects(found, EmbeddedPass(sae, 0, 1, places, embed), blocks, stream, pairs, batch_size=2)
    assert found.n_images.tolist() == [3, 3, 0, 0, 2]
    unit = torch.nn.functional.normalize
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for pair in pairs:
        image = stream[pair.row : pair.row + 1].clone()
        edited = image.clone()
        seen = image[:, list(places.numbers)]
        for token in places.numbers:
            row = seen.mean(1) if places.as_mean else image[:, token]
            z = sae.encode(row)
            without = z.clone()
            without[:, pair.latent] = 0
            edited[:, token] += sae.decode(without) - sae.decode(z)
        with_it, without_it = (embed(blocks.resume(each, 0, 1)) for each in (image, edited))
        expected[pair.position] += (unit(with_it, dim=1) - unit(without_it, dim=1))[0].double()
    expected /= found.n_images.clamp(min=1)[:, None]
    np.testing.assert_allclose(found.mean, expected, atol=1e-5)


def test_a_latent_that_nothing_reads_has_no_effect(stream):
    found = Effects(2)
    pairs = [EffectOf(row, latent, latent) for row in range(3) for latent in (NODE, UNUSED)]
    add_effects(found, EmbeddedPass(identity_sae(), 0, 1, TokenPlaces((0,)), embed), UsesAllButOne(), stream, pairs, 8)
    assert found.mean[NODE].norm() > 0.01
    assert found.mean[UNUSED].norm() < 1e-6
    assert Effects(3).mean.abs().sum() == 0
