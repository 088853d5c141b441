"""Tiny models with random weights, one of each supported type, as folders that save_pretrained wrote."""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers
from torch import nn

torch.set_num_threads(1)

_TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_WIDE = {**_TINY, "intermediate_size": 40}
# model_type of config.json, configuration class, model class, settings, image processor
MODELS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "dinov2": ("Dinov2Config", "Dinov2Model", _TINY, "BitImageProcessorPil"),
    "dinov2_with_registers": (
        "Dinov2WithRegistersConfig",
        "Dinov2WithRegistersModel",
        {**_TINY, "num_register_tokens": 3},
        "BitImageProcessorPil",
    ),
    "dinov3_vit": (
        "DINOv3ViTConfig",
        "DINOv3ViTModel",
        {**_WIDE, "num_register_tokens": 2},
        "ViTImageProcessorPil",
    ),
    "vit": ("ViTConfig", "ViTModel", _WIDE, "ViTImageProcessorPil"),
    "deit": ("DeiTConfig", "DeiTModel", _WIDE, "DeiTImageProcessorPil"),
    "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", _WIDE, "CLIPImageProcessorPil"),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", _WIDE, "SiglipImageProcessorPil"),
    "ijepa": ("IJepaConfig", "IJepaModel", _WIDE, "ViTImageProcessorPil"),
    "beit": ("BeitConfig", "BeitModel", {**_WIDE, "use_relative_position_bias": True}, "BeitImageProcessorPil"),
    "vit_mae": ("ViTMAEConfig", "ViTMAEModel", {**_WIDE, "mask_ratio": 0.75}, "ViTImageProcessorPil"),
    "siglip2_vision_model": (
        "Siglip2VisionConfig",
        "Siglip2VisionModel",
        {**{key: value for key, value in _WIDE.items() if key != "image_size"}, "num_patches": 16},
        "Siglip2ImageProcessorPil",
    ),
}
N_SPECIAL = {
    "dinov2_with_registers": 4,
    "dinov3_vit": 3,
    "deit": 2,
    "siglip_vision_model": 0,
    "siglip2_vision_model": 0,
    "ijepa": 0,
}
# Types whose blocks stand in stages of different widths; all have the widths 12, 24 and 1, 2 blocks.
STAGED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "swin": (
        "SwinConfig",
        "SwinModel",
        {"embed_dim": 12, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4, "image_size": 32, "patch_size": 4},
        "ViTImageProcessorPil",
    ),
    "convnext": (
        "ConvNextConfig",
        "ConvNextModel",
        {"hidden_sizes": [12, 24], "depths": [1, 2], "num_stages": 2, "image_size": 32},
        "ViTImageProcessorPil",
    ),
    "convnextv2": (
        "ConvNextV2Config",
        "ConvNextV2Model",
        {"hidden_sizes": [12, 24], "depths": [1, 2], "num_stages": 2, "image_size": 32},
        "ViTImageProcessorPil",
    ),
    "dinov3_convnext": (
        "DINOv3ConvNextConfig",
        "DINOv3ConvNextModel",
        {"hidden_sizes": [12, 24], "depths": [1, 2], "image_size": 32},
        "ViTImageProcessorPil",
    ),
}

_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "head_dim": 8,
}
# The language model, its classes, and the tower that it has usually.
LANGUAGE_MODELS = {
    "llava": ("LlavaConfig", "LlavaForConditionalGeneration", "clip_vision_model", "LlamaConfig"),
    "llava_next": ("LlavaNextConfig", "LlavaNextForConditionalGeneration", "clip_vision_model", "LlamaConfig"),
    "llava_next_video": (
        "LlavaNextVideoConfig",
        "LlavaNextVideoForConditionalGeneration",
        "clip_vision_model",
        "LlamaConfig",
    ),
    "llava_onevision": (
        "LlavaOnevisionConfig",
        "LlavaOnevisionForConditionalGeneration",
        "siglip_vision_model",
        "Qwen2Config",
    ),
    "paligemma": ("PaliGemmaConfig", "PaliGemmaForConditionalGeneration", "siglip_vision_model", "GemmaConfig"),
    "vipllava": ("VipLlavaConfig", "VipLlavaForConditionalGeneration", "clip_vision_model", "LlamaConfig"),
}


def import_torchvision() -> None:
    """Import torchvision, if it is installed, also one of another build than torch: it has no operators then.

    timm and open_clip use none of them, only its Python code, which asks for some when it is imported.
    """
    for operator in (None, "nms", "qnms"):
        if operator is not None:
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            with contextlib.suppress(RuntimeError):  # declared by an earlier call
                torch.library.define(f"torchvision::{operator}", schema)
        try:
            importlib.import_module("torchvision")
        except ModuleNotFoundError:
            return
        except RuntimeError:
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
        else:
            return


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fills every parameter: fresh models have zeros where a mistake would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def image_processor(class_name: str, size: int = 32, **changes: Any) -> Any:
    if class_name.startswith("Siglip2"):  # whose images have as many patches of 8 pixels as fit
        return getattr(transformers, class_name)(patch_size=8, max_num_patches=(size // 8) ** 2, **changes)
    square = {"height": size, "width": size}
    crops = class_name.startswith(("Bit", "CLIP", "DeiT"))
    arguments = {"size": square} | ({"crop_size": square} if crops else {}) | changes
    return getattr(transformers, class_name)(**arguments)


def new_model(kind: str, **settings: Any) -> Any:
    config_class, model_class, tiny, _ = (MODELS | STAGED)[kind]
    config = getattr(transformers, config_class)(**{**tiny, **settings})
    return randomise(getattr(transformers, model_class)(config))


def language_model(kind: str) -> Any:
    config_class, model_class, tower, text_class = LANGUAGE_MODELS[kind]
    vision = getattr(transformers, MODELS[tower][0])(**MODELS[tower][2])
    config = getattr(transformers, config_class)(
        vision_config=vision, text_config=getattr(transformers, text_class)(**_TEXT), image_token_index=39
    )
    return randomise(getattr(transformers, model_class)(config))


def save(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Sets fields of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def random_images(n_images: int, size: tuple[int, int] = (50, 41)) -> list[PIL.Image.Image]:
    generator = np.random.default_rng(n_images)
    shape = (size[1], size[0], 3)
    return [PIL.Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)) for _ in range(n_images)]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the folder of a type once; tests must not change it."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = save(folder, new_model(kind), image_processor((MODELS | STAGED)[kind][3]))
        return made[kind]

    return make
