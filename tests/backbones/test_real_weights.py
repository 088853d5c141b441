"""Models that were trained, in 16 bits as they are stored."""

import shutil
from pathlib import Path

import PIL.Image
import pytest
import torch
import transformers

from hsae.backbones.backbone import Backbone
from hsae.backbones.inspection import inspect_backbone

from .conftest import image_processor

CPU = torch.device("cpu")


def images_of(folder: Path, n_images: int) -> list[PIL.Image.Image]:
    return [PIL.Image.open(path) for path in sorted(folder.glob("*/*.png"))[::90][:n_images]]


@pytest.fixture
def fashion(shared_data: Path, tmp_path: Path) -> Path:
    """It comes without a preprocessor file."""
    folder = Path(shutil.copytree(shared_data / "tiny-dinov2-fashion", tmp_path / "fashion"))
    folder.chmod(0o755)
    image_processor("BitImageProcessorPil", 28).save_pretrained(folder)
    return folder


def check(folder: Path, images: list[PIL.Image.Image]) -> None:
    spec = inspect_backbone(str(folder))
    backbone = Backbone.load(spec, layers=range(spec.n_layers), device=CPU)
    pixel_values = backbone.pixel_values(images)
    model = transformers.Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        output = model(pixel_values, output_hidden_states=True)
    cls = backbone.activations(pixel_values, "cls")
    mean = backbone.activations(pixel_values, "mean")
    for layer in range(spec.n_layers):
        assert torch.equal(cls[layer][:, 0], output.hidden_states[layer + 1][:, 0])
        assert torch.equal(mean[layer][:, 0], output.hidden_states[layer + 1][:, 1:].mean(1))
    last = spec.n_layers - 1
    torch.testing.assert_close(model.layernorm(cls[last]), output.last_hidden_state[:, :1], rtol=0, atol=0)


def test_dinov2_small(shared_data: Path) -> None:
    folder = shared_data / "dinov2-small"
    spec = inspect_backbone(str(folder))
    assert (spec.n_layers, spec.d_model, spec.n_prefix_tokens, spec.n_patches) == (12, 384, 1, 256)
    check(folder, images_of(shared_data / "emoji", 3))


def test_layer_8_alone(shared_data: Path) -> None:
    folder = shared_data / "dinov2-small"
    images = images_of(shared_data / "emoji", 2)
    backbone = Backbone.load(inspect_backbone(str(folder)), layers=[8], device=CPU)
    processor = transformers.BitImageProcessorPil.from_pretrained(folder)
    pixel_values = processor(images=images, return_tensors="pt")["pixel_values"]
    assert torch.equal(backbone.pixel_values(images), pixel_values)
    model = transformers.Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(pixel_values, output_hidden_states=True).hidden_states[9][:, :1]
    assert torch.equal(backbone.activations(pixel_values, "cls")[8], expected)


def test_tiny_dinov2_fashion(fashion: Path, shared_data: Path) -> None:
    spec = inspect_backbone(str(fashion))
    assert (spec.n_layers, spec.d_model, spec.n_patches) == (6, 192, 16)
    check(fashion, images_of(shared_data / "fashion", 4))
