"""The vision tower inside a language model: the same activations as the tower in its place, and nothing else read."""

from pathlib import Path

import pytest
import torch

from hsae.backbones.architectures import LANGUAGE_MODELS as SUPPORTED
from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone
from hsae.backbones.loading.tower_weights import tower_weights
from hsae.backbones.spec import BackboneSize
from hsae.errors import UserError

from .conftest import LANGUAGE_MODELS, MODELS, edit_json, image_processor, language_model, random_images, save

CPU = torch.device("cpu")


def test_every_language_model_that_is_listed_is_tested() -> None:
    assert {kind: names[0] for kind, names in LANGUAGE_MODELS.items()} == dict(SUPPORTED)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_the_tower_of_a_language_model(kind: str, tmp_path: Path) -> None:
    tower = LANGUAGE_MODELS[kind][2]
    model = language_model(kind)
    folder = save(tmp_path, model, image_processor(MODELS[tower][3]))
    spec = inspect_backbone(str(folder))
    assert (spec.model_type, spec.n_layers, spec.d_model) == (tower, 4, 24)
    backbone = Backbone.load(spec, layers=range(3), device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    inner = model.model.vision_tower
    with torch.no_grad():
        hidden_states = inner(pixel_values, output_hidden_states=True).hidden_states
    for layer, found in backbone.activations(pixel_values, "patches").items():
        torch.testing.assert_close(found, hidden_states[layer + 1][:, spec.n_prefix_tokens :], rtol=0, atol=0)


def test_only_the_tower_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path, language_model("llava"), image_processor(MODELS["clip_vision_model"][3]))
    weights = tower_weights(folder)
    assert weights is not None
    assert not [name for name in weights if "language" in name or "projector" in name]


def test_the_size_is_known_at_once(tmp_path: Path) -> None:
    folder = save(tmp_path, language_model("llava"), image_processor(MODELS["clip_vision_model"][3]))
    seen: list[BackboneSize] = []
    inspect_backbone(str(folder), accept=seen.append)
    assert [(size.n_layers, size.d_model) for size in seen] == [(4, 24)]


def test_random_weights_of_the_tower_alone(tmp_path: Path) -> None:
    folder = save(tmp_path, language_model("llava"), image_processor(MODELS["clip_vision_model"][3]))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    first, second = (
        Backbone.load(inspect_backbone(str(folder), random_seed=1), layers=layers, device=CPU)
        for layers in ([0], [3, 0])
    )
    pixel_values = first.pixel_values(random_images(1))
    assert torch.equal(first.activations(pixel_values, "cls")[0], second.activations(pixel_values, "cls")[0])


def test_a_tower_that_is_not_supported(tmp_path: Path) -> None:
    folder = save(tmp_path, language_model("llava"), image_processor(MODELS["clip_vision_model"][3]))
    edit_json(folder / "config.json", vision_config={"model_type": "pixtral"})
    with pytest.raises(UserError, match="sees through a vision tower of type pixtral, which is not supported") as error:
        inspect_backbone(str(folder))
    assert "\n" not in str(error.value)
