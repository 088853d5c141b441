"""Vision towers of open_clip against the library itself, on small ones with random weights.

`make test-libraries` runs these where it is installed. Without it they are skipped.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.relevancy.plain_grad_cam import new_sae, plain_grad_cam

from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import EMBEDDING, RESIDUAL
from hsae.backbones.inspection import inspect_backbone
from hsae.errors import UserError
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance

from .conftest import import_torchvision, random_images, randomise

CPU = torch.device("cpu")
import_torchvision()
open_clip: Any = pytest.importorskip(
    "open_clip", reason="open_clip is not installed: `make test-libraries` has it", exc_type=ImportError
)
VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}


@pytest.fixture
def open_clip_model(tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Makes a folder that open_clip saved, and the model."""

    def make(vision: dict[str, Any] = VISION, **preprocess: Any) -> tuple[Path, Any]:
        text = {"context_length": 8, "vocab_size": 30, "width": 16, "heads": 2, "layers": 1}
        config = {"embed_dim": 20, "vision_cfg": vision, "text_cfg": text}
        model = randomise(open_clip.model.CLIP(**json.loads(json.dumps(config))))
        folder = tmp_path / "clip"
        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
        tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "open_clip_model.safetensors")
        return folder, model

    return make


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.1}, {"pool_type": "avg"}])
def test_layers_and_embedding_of_open_clip(options: dict[str, Any], open_clip_model: Any) -> None:
    folder, model = open_clip_model(VISION | options)
    spec = inspect_backbone(f"open_clip:{folder}")
    assert (spec.n_layers, spec.d_model, spec.n_patches, spec.n_prefix_tokens) == (3, 32, 16, 1)
    backbone = Backbone.load(spec, layers=range(3), device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        theirs = model.visual.forward_intermediates(pixel_values, output_fmt="NLC", output_extra_tokens=True)
    patches, cls = (backbone.activations(pixel_values, tokens) for tokens in ("patches", "cls"))
    for layer in range(3):
        torch.testing.assert_close(patches[layer], theirs["image_intermediates"][layer], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(cls[layer], theirs["image_intermediates_prefix"][layer], rtol=1e-5, atol=1e-5)
    embedding = inspect_backbone(f"open_clip:{folder}", hook=EMBEDDING)
    found = Backbone.load(embedding, layers=[2], device=CPU, hook=EMBEDDING).activations(pixel_values, "cls")[2]
    with torch.no_grad():
        expected = model.encode_image(pixel_values)
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_grad_cam_of_open_clip_is_that_of_the_whole_tower(open_clip_model: Any) -> None:
    folder, model = open_clip_model()
    backbone = Backbone.load(inspect_backbone(f"open_clip:{folder}"), layers=[1], device=CPU)
    images, sae = backbone.pixel_values(random_images(2)), new_sae(32)
    latents = sae.encode(backbone.activations(images, "mean")[1][:, 0]).argmax(1)
    found = relevance(backbone, 1, LatentObjective(sae, latents, "mean"), images, "gradcam")
    block = model.visual.transformer.resblocks[1]
    for image, latent, one in zip(images, latents.tolist(), found, strict=True):
        expected = plain_grad_cam(model.visual, block, image, sae, latent, lambda output: output, 1)
        torch.testing.assert_close(one.flatten(), expected, rtol=1e-3, atol=1e-4)


def test_what_the_parts_of_open_clip_add(open_clip_model: Any) -> None:
    folder, _ = open_clip_model(VISION | {"ls_init_value": 0.1})
    found = {}
    for hook in (RESIDUAL, "attention", "mlp"):
        spec = inspect_backbone(f"open_clip:{folder}", hook=hook)
        backbone = Backbone.load(spec, layers=range(3), device=CPU, hook=hook)
        found[hook] = backbone.activations(backbone.pixel_values(random_images(2)), "patches")
    parts = found["attention"][2] + found["mlp"][2]
    torch.testing.assert_close(found[RESIDUAL][1] + parts, found[RESIDUAL][2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
def test_images_are_prepared_as_open_clip_does(resize_mode: str, open_clip_model: Any) -> None:
    folder, _ = open_clip_model(resize_mode=resize_mode, mean=[0.4, 0.5, 0.6])
    backbone = Backbone.load(inspect_backbone(f"open_clip:{folder}"), layers=[0], device=CPU)
    cfg = open_clip.transform.PreprocessCfg(size=32, resize_mode=resize_mode, mean=(0.4, 0.5, 0.6))
    transform = open_clip.transform.image_transform_v2(cfg, is_train=False)
    images = random_images(3, (60, 48))
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(backbone.pixel_values(images), expected, rtol=1e-5, atol=1e-5)


def test_a_timm_tower_inside_open_clip(open_clip_model: Any) -> None:
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    folder, model = open_clip_model(vision)
    spec = inspect_backbone(f"open_clip:{folder}", hook=EMBEDDING)
    backbone = Backbone.load(spec, layers=[spec.n_layers - 1], device=CPU, hook=EMBEDDING)
    pixel_values = backbone.pixel_values(random_images(1))
    with torch.no_grad():
        expected = model.encode_image(pixel_values)
    found = backbone.activations(pixel_values, "cls")[spec.n_layers - 1]
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("open_clip:ViT-B-33/openai", "open_clip .* has no model ViT-B-33: near ones are .*ViT-B-32"),
        ("open_clip:ViT-B-32/nothing", "ViT-B-32 has no weights nothing: choose one of openai, laion400m"),
        ("open_clip:ViT-B-32", "ViT-B-32 has several weights: choose one of openai"),
        (
            "open_clip:ViT-B-32/openai",
            "trained with another activation than ViT-B-32 has: take ViT-B-32-quickgelu/openai",
        ),
    ],
)
def test_what_open_clip_has_not(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        inspect_backbone(name)
    assert "\n" not in str(error.value)


def test_a_resnet_of_open_clip_has_no_blocks() -> None:
    with pytest.raises(UserError, match="ModifiedResNet has no blocks: choose a vision transformer"):
        inspect_backbone("open_clip:RN50", random_seed=0)
