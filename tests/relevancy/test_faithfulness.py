"""Deletion and insertion on a backbone and a latent of which it is known where it looks."""

import pytest
import torch
from tests.relevancy.small_backbones import loaded, pixels, random_sae, saved

from hsae.backbones.backbone import Backbone
from hsae.relevancy.faithfulness import Curves, curves
from hsae.relevancy.objective import LatentObjective, Objective

LAYER = 1


class Brightness(Objective):
    """Stands for a latent: reads what the stand-in below gives as one token per image."""

    tokens = "cls"

    def activations(self, x):
        return x[..., 0]


class LooksAtOnePatch(Backbone):
    """Stands for a backbone: its one token is the mean of the pixels of one of 4 x 4 patches of 2 x 2 pixels."""

    layers = (LAYER,)

    def __init__(self, row, col):
        self.row, self.col = row, col

    def activations(self, images, tokens):
        assert tokens == "cls"
        patch = images[:, :, 2 * self.row : 2 * self.row + 2, 2 * self.col : 2 * self.col + 2]
        return {LAYER: patch.mean((1, 2, 3)).view(-1, 1, 1)}


@pytest.mark.parametrize(("row", "col"), [(0, 0), (2, 3), (3, 1)])
def test_a_map_that_knows_the_patch_wins_and_one_that_denies_it_loses(row, col):
    images = torch.ones(2, 3, 8, 8)
    knows = torch.zeros(2, 4, 4)
    knows[:, row, col] = 1
    backbone = LooksAtOnePatch(row, col)
    found = curves(backbone, Brightness(), images, knows, n_steps=16)
    assert found.deletion.tolist() == [[1.0] + [0.0] * 16] * 2
    assert found.insertion.tolist() == [[0.0] + [1.0] * 16] * 2
    deletion, insertion = found.areas()
    assert deletion.tolist() == [1 / 32] * 2
    assert insertion.tolist() == [31 / 32] * 2
    denies = curves(backbone, Brightness(), images, -knows, n_steps=16)
    assert denies.areas()[0].tolist() == [31 / 32] * 2
    # Fewer points, the same ends.
    few = curves(backbone, Brightness(), images, knows, n_steps=4)
    assert few.deletion.tolist() == [[1.0, 0, 0, 0, 0]] * 2


def test_among_equal_patches_the_first_goes_first():
    images = torch.ones(1, 3, 8, 8)
    found = curves(LooksAtOnePatch(0, 1), Brightness(), images, torch.zeros(1, 4, 4), n_steps=16)
    assert found.deletion[0].tolist() == [1.0, 1.0] + [0.0] * 15


def test_the_ends_are_the_whole_image_and_none_of_it(tmp_path):
    backbone, sae = loaded(saved("dinov2", tmp_path), LAYER), random_sae()
    images = pixels(backbone, 3)
    objective = LatentObjective(sae, torch.tensor([0, 1, 2]), "cls")
    whole = objective.activations(backbone.activations(images, "cls")[LAYER])[:, 0]
    none = objective.activations(backbone.activations(torch.zeros_like(images), "cls")[LAYER])[:, 0]
    found = curves(backbone, objective, images, torch.rand(3, 4, 4), n_steps=5)
    torch.testing.assert_close(found.deletion[:, 0], whole)
    torch.testing.assert_close(found.insertion[:, -1], whole)
    torch.testing.assert_close(found.deletion[:, -1], none)
    torch.testing.assert_close(found.insertion[:, 0], none)


def test_areas_of_a_latent_that_does_not_fire_are_undefined():
    silent = Curves(torch.zeros(1, 3), torch.ones(1, 3))
    deletion, insertion = silent.areas()
    assert deletion.isnan().all()
    assert insertion.isnan().all()
    known = Curves(torch.tensor([[4.0, 2, 0]]), torch.tensor([[0.0, 4, 4]]))
    assert [area.tolist() for area in known.areas()] == [[0.5], [0.75]]
