"""Models of timm against the library itself, on small ones with random weights.

`make test-libraries` runs these where it is installed. Without it they are skipped.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from tests.relevancy.plain_grad_cam import new_sae, plain_grad_cam

from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.inspection import describe, inspect_backbone
from hsae.backbones.names import library_of, short_model_name
from hsae.errors import UserError
from hsae.relevancy.objective import LatentObjective
from hsae.relevancy.relevance import relevance

from .conftest import import_torchvision, random_images, randomise

CPU = torch.device("cpu")
import_torchvision()
timm: Any = pytest.importorskip(
    "timm", reason="timm is not installed: `make test-libraries` has it", exc_type=ImportError
)
DATA = {
    "mean": (0.4, 0.5, 0.6),
    "std": (0.2, 0.3, 0.25),
    "crop_pct": 0.8,
    "interpolation": "bicubic",
    "crop_mode": "center",
}
_TOKENS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
# By a name the architecture, how it is made small, and the tokens before the patches.
MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "vit": ("vit_tiny_patch16_224", _TOKENS, 1),
    "dinov2": ("vit_small_patch14_dinov2", _TOKENS | {"init_values": 0.1}, 1),
    "registers": ("vit_small_patch14_reg4_dinov2", _TOKENS | {"reg_tokens": 3}, 4),
    "siglip": ("vit_base_patch16_siglip_224", _TOKENS, 0),
    "eva02": ("eva02_tiny_patch14_224", _TOKENS | {"ref_feat_shape": (4, 4)}, 1),
    "beit": ("beit_base_patch16_224", _TOKENS, 1),
}
STAGED: dict[str, tuple[str, dict[str, Any]]] = {
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"img_size": 32, "embed_dim": 12, "depths": (1, 2), "num_heads": (2, 2), "window_size": 4},
    ),
    "swinv2": (
        "swinv2_tiny_window8_256",
        {"img_size": 32, "embed_dim": 12, "depths": (1, 2), "num_heads": (2, 2), "window_size": 4},
    ),
    "convnext": ("convnext_atto", {"depths": (1, 2, 1, 1), "dims": (12, 24, 24, 24)}),
}


def saved(folder: Path, architecture: str, arguments: dict[str, Any]) -> tuple[Path, Any]:
    """A folder as timm's repositories are, and the model."""
    model = timm.create_model(architecture, pretrained=False, num_classes=5, **arguments)
    randomise(model)
    data = {**DATA, "input_size": (3, 32, 32), "num_classes": 5, "first_conv": None, "classifier": "head"}
    kept = {"architecture": architecture, "num_classes": 5, "model_args": arguments, "pretrained_cfg": data}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(kept))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    return folder, model


def tokens_of(output: torch.Tensor, kind: str) -> torch.Tensor:
    if output.ndim == 3:
        return output
    channels_last = output.permute(0, 2, 3, 1) if kind == "convnext" else output
    return torch.stack([row for image in channels_last for row in image.flatten(0, 1)]).view(
        len(output), -1, channels_last.shape[-1]
    )


@pytest.mark.parametrize("kind", MODELS)
def test_layers_are_timm_s_own_intermediates(kind: str, tmp_path: Path) -> None:
    architecture, arguments, n_prefix = MODELS[kind]
    folder, model = saved(tmp_path / "model", architecture, arguments)
    spec = inspect_backbone(f"timm:{folder}")
    assert (spec.name, spec.n_layers, spec.d_model, spec.n_patches) == (f"timm:{folder}", 3, 24, 16)
    assert (spec.n_prefix_tokens, spec.has_class_token) == (n_prefix, n_prefix > 0)
    assert spec.n_registers == max(0, n_prefix - 1)
    backbone = Backbone.load(spec, layers=range(3), device=CPU)
    pixel_values = backbone.pixel_values(random_images(3))
    with torch.no_grad():
        expected = model.eval().forward_intermediates(
            pixel_values, return_prefix_tokens=n_prefix > 0, intermediates_only=True, output_fmt="NLC", norm=False
        )
    patches = backbone.activations(pixel_values, "patches")
    for layer in range(3):
        theirs = expected[layer] if n_prefix == 0 else expected[layer][0]
        torch.testing.assert_close(patches[layer], theirs, rtol=0, atol=0)
        if n_prefix:
            cls = backbone.activations(pixel_values, "cls")[layer]
            torch.testing.assert_close(cls[:, 0], expected[layer][1][:, 0], rtol=0, atol=0)
        alone = Backbone.load(spec, layers=[layer], device=CPU).activations(pixel_values, "patches")
        assert torch.equal(alone[layer], patches[layer])


@pytest.mark.parametrize("kind", STAGED)
def test_blocks_of_stages(kind: str, tmp_path: Path) -> None:
    architecture, arguments = STAGED[kind]
    folder, model = saved(tmp_path / "model", architecture, arguments)
    spec = inspect_backbone(f"timm:{folder}")
    n_layers = 5 if kind == "convnext" else 3
    assert [spec.shape(layer).width for layer in range(spec.n_layers)] == [12] + [24] * (n_layers - 1)
    found: list[torch.Tensor] = []
    for module in model.eval().modules():
        if type(module).__name__ in ("SwinTransformerBlock", "SwinTransformerV2Block", "ConvNeXtBlock"):
            module.register_forward_hook(lambda module, given, output: found.append(output))
    backbone = Backbone.load(spec, layers=range(n_layers), device=CPU)
    pixel_values = backbone.pixel_values(random_images(2))
    with torch.no_grad():
        model(pixel_values)
    patches = backbone.activations(pixel_values, "patches")
    for layer in range(n_layers):
        torch.testing.assert_close(patches[layer], tokens_of(found[layer], kind), rtol=0, atol=0)
        alone = Backbone.load(spec, layers=[layer], device=CPU).activations(pixel_values, "patches")
        assert torch.equal(alone[layer], patches[layer])


@pytest.mark.parametrize("kind", [*MODELS, *STAGED])
def test_grad_cam_is_that_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    architecture, arguments = STAGED[kind] if kind in STAGED else MODELS[kind][:2]
    folder, model = saved(tmp_path / "model", architecture, arguments)
    backbone = Backbone.load(inspect_backbone(f"timm:{folder}"), layers=[2], device=CPU)
    images, sae = backbone.pixel_values(random_images(2)), new_sae(24)
    latents = sae.encode(backbone.activations(images, "mean")[2][:, 0]).argmax(1)
    found = relevance(backbone, 2, LatentObjective(sae, latents, "mean"), images, "gradcam")
    side = 4
    assert found.shape == (2, side, side)
    names = ("Block", "EvaBlock", "SwinTransformerBlock", "SwinTransformerV2Block", "ConvNeXtBlock")
    block = [module for module in model.modules() if type(module).__name__ in names][2]
    for image, latent, one in zip(images, latents.tolist(), found, strict=True):
        expected = plain_grad_cam(
            model, block, image, sae, latent, lambda output: tokens_of(output, kind), backbone.spec.n_prefix_tokens
        )
        torch.testing.assert_close(one.flatten(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_what_the_parts_add_makes_the_next_stream(kind: str, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", *MODELS[kind][:2])
    found = {}
    for hook in (RESIDUAL, "attention", "mlp"):
        backbone = Backbone.load(inspect_backbone(f"timm:{folder}", hook=hook), layers=range(3), device=CPU, hook=hook)
        found[hook] = backbone.activations(backbone.pixel_values(random_images(2)), "patches")
    for layer in (1, 2):
        parts = found["attention"][layer] + found["mlp"][layer]
        torch.testing.assert_close(found[RESIDUAL][layer - 1] + parts, found[RESIDUAL][layer], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_images_are_prepared_as_timm_does(crop_mode: str, tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", *MODELS["vit"][:2])
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_mode": crop_mode} | ({"crop_pct": 1.0} if crop_mode == "squash" else {})
    (folder / "config.json").write_text(json.dumps(config))
    backbone = Backbone.load(inspect_backbone(f"timm:{folder}"), layers=[0], device=CPU)
    given = timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
    transform = timm.data.create_transform(**given)
    images = [PIL.Image.fromarray(np.asarray(image)) for image in random_images(3, (60, 48))]
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(backbone.pixel_values(images), expected, rtol=1e-5, atol=1e-5)


def test_the_files_are_the_identity(tmp_path: Path) -> None:
    folder, model = saved(tmp_path / "model", *MODELS["vit"][:2])
    spec = inspect_backbone(f"timm:{folder}")
    assert short_model_name(spec.name) == "timm:model"
    randomise(model, seed=1)
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    with pytest.raises(UserError, match="the files of timm:.* have revision sha256-.*, not sha256-"):
        Backbone.load(spec, layers=[0], device=CPU)
    assert inspect_backbone(f"timm:{folder}").revision != spec.revision


def test_a_file_of_an_architecture_that_timm_knows(tmp_path: Path) -> None:
    model = randomise(timm.create_model("test_vit", pretrained=False))
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    spec = inspect_backbone(f"timm:test_vit/{path}")
    backbone = Backbone.load(spec, layers=[2], device=CPU)
    pixel_values = backbone.pixel_values(random_images(1))
    with torch.no_grad():
        expected = model.forward_intermediates(pixel_values, intermediates_only=True, output_fmt="NLC")  # type: ignore[operator]
    torch.testing.assert_close(backbone.activations(pixel_values, "patches")[2], expected[2], rtol=0, atol=0)


def test_random_weights_by_seed(tmp_path: Path) -> None:
    spec = inspect_backbone("timm:test_vit", random_seed=4)
    assert spec.name == "timm:test_vit (random init, seed 4)"
    assert spec.random_init is not None
    assert set(spec.random_init.libraries) == {"torch", "timm"}
    state = torch.get_rng_state()
    first, second = (Backbone.load(spec, layers=layers, device=CPU) for layers in ([1], [0, 1, 2]))
    assert torch.equal(torch.get_rng_state(), state)
    pixel_values = first.pixel_values(random_images(1))
    found = first.activations(pixel_values, "cls")[1]
    assert torch.equal(found, second.activations(pixel_values, "cls")[1])
    other = Backbone.load(inspect_backbone("timm:test_vit", random_seed=5), layers=[1], device=CPU)
    assert not torch.allclose(found, other.activations(pixel_values, "cls")[1])


def test_hooks_by_path_and_near_names(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", *MODELS["vit"][:2])
    described = describe(f"timm:{folder}")
    assert described.settled("blocks.1").hook == RESIDUAL
    assert described.settled("blocks.1.mlp.fc1").hook == "blocks.*.mlp.fc1"
    assert described.at("blocks.*.mlp.fc1").shape(0, "blocks.*.mlp.fc1").width == 96
    with pytest.raises(UserError, match=r"has no module blocks\.7: near ones are .*blocks\.0"):
        described.settled("blocks.7")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "timm:vit_bse_patch14_dinov2",
            "timm .* has no model vit_bse_patch14_dinov2: near ones are .*vit_base_patch14",
        ),
        ("timm:resnet18", "timm's ResNet has no blocks that are supported: choose a model of VisionTransformer, Eva"),
        ("timm:test_vit/./nowhere.safetensors", "there is no file .*nowhere.safetensors: correct the path"),
    ],
)
def test_what_is_refused(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        inspect_backbone(name, random_seed=None if "safetensors" in name or "bse" in name else 0)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_the_model_s(tmp_path: Path) -> None:
    folder, _ = saved(tmp_path / "model", *MODELS["vit"][:2])
    save_file({"other": torch.zeros(2)}, folder / "model.safetensors")
    spec = inspect_backbone(f"timm:{folder}")
    with pytest.raises(UserError, match="cannot be loaded: the weights are damaged or of another model") as error:
        Backbone.load(spec, layers=[0], device=CPU)
    assert "\n" not in str(error.value)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UserError, match="no weights in safetensors format"):
        inspect_backbone(f"timm:{folder}")


def test_prefixes() -> None:
    assert library_of("timm:vit_base") == "timm"
    assert library_of("open_clip:ViT-B-32/openai") == "open_clip"
    assert [library_of(name) for name in ("facebook/dinov2", "timm", "timm:", "C:/model")] == [None] * 4
    assert math.floor(224 / 0.875) == 256


def test_the_operators_of_torchvision_load() -> None:
    """Those of a build for another torch do not: nothing here needs them, but a user should know."""
    import torchvision

    if not torchvision.extension._has_ops():
        pytest.skip("this torchvision was built for another torch (CUDA) than the one that is installed (CPU)")
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    assert kept.tolist() == [0, 2]
