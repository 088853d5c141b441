"""Relevancy maps on the emulated device: no tensor on the wrong side, forwards and backwards."""

import pytest
import torch
from tests.backbones.conftest import random_images
from tests.devices.emulated_cuda import CUDA, EmulatedCuda

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder
from hsae.relevancy.config import MAP_METHODS
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance_maps
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder

LAYER = 1


def maps_on(device, tokens):
    backbone = Backbone.load(inspect_backbone(str(backbone_folder())), layers=[LAYER], device=device)
    images = backbone.pixel_values(random_images(2))
    sae = SparseAutoencoder(SaeConfig(expansion=1), backbone.spec.d_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    objective = LatentObjective(sae.requires_grad_(False).to(device), torch.tensor([3, 5]).to(device), tokens)
    return relevance_maps(backbone, LAYER, objective, images, MAP_METHODS)


@pytest.mark.filterwarnings("ignore:User provided device_type")
@pytest.mark.parametrize("tokens", ["cls", "mean", "patches"])
def test_maps_come_to_the_same(tokens):
    expected = maps_on(torch.device("cpu"), tokens)
    with EmulatedCuda():
        found = maps_on(CUDA, tokens)
    torch.testing.assert_close(found.activations, expected.activations, rtol=1e-3, atol=1e-4)
    for method, maps in expected.maps.items():
        assert type(found.maps[method]) is torch.Tensor
        torch.testing.assert_close(found.maps[method], maps, rtol=2e-2, atol=1e-3 * float(maps.max()))
