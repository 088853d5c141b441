"""The supported vision transformers, and the properties that are not in their configurations.

Each type has a test that compares every layer with the model's own hidden states. Do not add a type without one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from hsae.errors import UserError


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model type of the transformers library.

    Attributes:
        config_class: name of the configuration class in `transformers`.
        model_class: name of the model class in `transformers`.
        processor: image processor to use if the model's files name none.
        has_class_token: whether token 0 is a class token.
        n_special_tokens: number of tokens before the patches, without registers.
        has_registers: whether `num_register_tokens` of the configuration are added to these.
        interpolation_flag: whether the model interpolates its position embeddings only if a flag is set.
        model_options: options that remove what follows the blocks (poolers, heads).
        config_changes: changes of the configuration for the same purpose.
    """

    config_class: str
    model_class: str
    processor: str
    has_class_token: bool = True
    n_special_tokens: int = 1
    has_registers: bool = False
    interpolation_flag: bool = True
    model_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    config_changes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_NO_POOLER = MappingProxyType({"add_pooling_layer": False})

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "dinov2": Architecture("Dinov2Config", "Dinov2Model", "BitImageProcessor", interpolation_flag=False),
        "dinov2_with_registers": Architecture(
            "Dinov2WithRegistersConfig",
            "Dinov2WithRegistersModel",
            "BitImageProcessor",
            has_registers=True,
            interpolation_flag=False,
        ),
        "dinov3_vit": Architecture(
            "DINOv3ViTConfig", "DINOv3ViTModel", "DINOv3ViTImageProcessor", has_registers=True, interpolation_flag=False
        ),
        "vit": Architecture("ViTConfig", "ViTModel", "ViTImageProcessor", model_options=_NO_POOLER),
        "deit": Architecture(
            "DeiTConfig", "DeiTModel", "DeiTImageProcessor", n_special_tokens=2, model_options=_NO_POOLER
        ),
        "clip_vision_model": Architecture("CLIPVisionConfig", "CLIPVisionModel", "CLIPImageProcessor"),
        "siglip_vision_model": Architecture(
            "SiglipVisionConfig",
            "SiglipVisionModel",
            "SiglipImageProcessor",
            has_class_token=False,
            n_special_tokens=0,
            config_changes=MappingProxyType({"vision_use_head": False}),
        ),
        "ijepa": Architecture(
            "IJepaConfig",
            "IJepaModel",
            "ViTImageProcessor",
            has_class_token=False,
            n_special_tokens=0,
            model_options=_NO_POOLER,
        ),
    }
)

# Image-and-text models, of which only the vision tower is used.
TOWERS: Mapping[str, str] = MappingProxyType({"clip": "clip_vision_model", "siglip": "siglip_vision_model"})


def vision_type(model_type: object, name: str) -> str:
    """The key in `ARCHITECTURES` for the `model_type` of a model's config.json.

    Raises:
        UserError: the type is not supported.
    """
    if isinstance(model_type, str):
        model_type = TOWERS.get(model_type, model_type)
        if model_type in ARCHITECTURES:
            return model_type
    supported = ", ".join(sorted([*ARCHITECTURES, *TOWERS]))
    if not isinstance(model_type, str):
        raise UserError(f"{name}: its config.json names no model_type; supported are {supported}")
    raise UserError(
        f"{name} is of type {model_type}, which is no supported vision transformer: choose one of type {supported}"
    )
