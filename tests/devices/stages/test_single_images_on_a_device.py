"""An edit of single images, as notebooks ask for it, on the emulated device."""

import numpy as np
import pytest
import torch
from tests.backbones.conftest import random_images
from tests.devices.emulated_cuda import CUDA, EmulatedCuda
from tests.small import _load_taxonomy

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.demo import backbone_folder
from hsae.interventions.effects import Tree
from hsae.interventions.readouts import LinearReadout, ReadRows
from hsae.pipeline.stages.interventions.single_images import FrozenProbe, ImageEditor, moved_nodes
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.taxonomy import induce

LAYER, CLASSES = 1, ("n02084071", "n02121620", "n01503061")  # dog, cat, bird


@pytest.fixture(scope="module")
def taxonomy():
    return induce(_load_taxonomy(None), CLASSES)


def edited_on(device, taxonomy):
    spec = inspect_backbone(str(backbone_folder()))
    backbone = Backbone.load(spec, layers=[LAYER, spec.n_layers - 1], device=device)
    images = backbone.pixel_values(random_images(2))
    sae = SparseAutoencoder(SaeConfig(expansion=1), spec.d_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    weight = torch.randn(spec.d_model, len(CLASSES), generator=generator, dtype=torch.float64)
    probe = LinearReadout(
        ReadRows(spec.n_prefix_tokens, spec.has_class_token),
        weight.to(device),
        torch.zeros(len(CLASSES), dtype=torch.float64).to(device),
    )
    editor = ImageEditor(
        LAYER,
        "cls",
        backbone,
        sae.requires_grad_(False).to(device),
        FrozenProbe(probe, 0.5, 0.3),
        taxonomy,
        Tree.of(taxonomy),
    )
    moved = [
        editor.edit(images, {3: 0.0, 5: 0.0}, kind="scale"),
        editor.edit(images, {3: 40.0, 5: 0.0}, kind="clamp"),
    ]
    return moved, moved_nodes(editor, moved[1], 0)


@pytest.mark.filterwarnings("ignore:User provided device_type")
def test_an_edit_comes_to_the_same(taxonomy):
    expected, expected_rows = edited_on(torch.device("cpu"), taxonomy)
    with EmulatedCuda():
        found, rows = edited_on(CUDA, taxonomy)
    for one, other in zip(found, expected, strict=True):
        for name in ("before", "after", "activations"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-4, err_msg=name)
    assert [row["synset"] for row in rows] == [row["synset"] for row in expected_rows]
    assert np.abs(expected[1].after - expected[1].before).max() > 1e-3
