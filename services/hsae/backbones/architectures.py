"""The supported models of transformers, and what their configurations do not say of them.

Each type has a test that compares every layer with the model's own hidden states. Do not add a type without one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from hsae.backbones.hooks.family import Addition, Embedding, Family
from hsae.errors import UserError

Inputs = Literal["pixels", "ordered_patches", "square_patches"]


@dataclass(frozen=True, slots=True)
class Architecture(Family):
    """A model type of the transformers library.

    Attributes:
        config_class: name of the configuration class in `transformers`.
        model_class: name of the model class in `transformers`.
        processor: image processor to use if the model's files name none.
        has_class_token: whether token 0 is a class token; where there is none, the mean of the patches sums up.
        n_special_tokens: number of tokens before the patches, without registers.
        has_registers: whether `num_register_tokens` of the configuration are added to these.
        interpolation_flag: whether the model interpolates its position embeddings only if a flag is set.
        inputs: what the model reads: pixels; pixels and an order of the patches (MAE would draw one, and leave patches
            out); or a square grid of patches as rows of pixels.
        model_options: options that remove what follows the blocks (poolers, heads).
        config_changes: changes of the configuration for the same purpose.
    """

    config_class: str = ""
    model_class: str = ""
    processor: str = "ViTImageProcessor"
    has_class_token: bool = True
    n_special_tokens: int = 1
    has_registers: bool = False
    interpolation_flag: bool = True
    inputs: Inputs = "pixels"
    model_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    config_changes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def n_registers(self, config: Any) -> int:
        """How many registers a model of a configuration has."""
        return int(config.num_register_tokens) if self.has_registers else 0


_NO_POOLER = MappingProxyType({"add_pooling_layer": False})
_NO_HEAD = MappingProxyType({"vision_use_head": False})
# Blocks that scale what they add by a learned vector.
_SCALED: dict[str, Any] = {"attention": Addition("layer_scale1"), "mlp": Addition("layer_scale2")}
_PLAIN: dict[str, Any] = {"attention": Addition("attention"), "mlp": Addition("mlp")}
_TOWER: dict[str, Any] = {"blocks": "encoder.layers.*", "attention": Addition("self_attn"), "mlp": Addition("mlp")}
# Networks in stages: each halves the rows and columns, and doubles the width. They have patches alone.
_STAGED: dict[str, Any] = {"has_class_token": False, "n_special_tokens": 0, "is_staged": True}
_CONVOLUTIONAL: dict[str, Any] = {
    "attention": None, "mlp": Addition("drop_path"), "processor": "ConvNextImageProcessor", "interpolation_flag": False,
    "map_axes": "channels_first", **_STAGED,
}  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        "dinov2": Architecture(
            example="facebook/dinov2-base",
            config_class="Dinov2Config",
            model_class="Dinov2Model",
            processor="BitImageProcessor",
            interpolation_flag=False,
            blocks="encoder.layer.*",
            **_SCALED,
        ),
        "dinov2_with_registers": Architecture(
            example="facebook/dinov2-with-registers-base",
            config_class="Dinov2WithRegistersConfig",
            model_class="Dinov2WithRegistersModel",
            processor="BitImageProcessor",
            has_registers=True,
            interpolation_flag=False,
            blocks="encoder.layer.*",
            **_SCALED,
        ),
        "dinov3_vit": Architecture(
            example="facebook/dinov3-vitb16-pretrain-lvd1689m",
            config_class="DINOv3ViTConfig",
            model_class="DINOv3ViTModel",
            processor="DINOv3ViTImageProcessor",
            has_registers=True,
            interpolation_flag=False,
            blocks="model.layer.*",
            **_SCALED,
        ),
        "dinov3_convnext": Architecture(
            example="facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
            config_class="DINOv3ConvNextConfig",
            model_class="DINOv3ConvNextModel",
            blocks="model.stages.*.layers.*",
            **(_CONVOLUTIONAL | {"processor": "DINOv3ViTImageProcessor"}),
        ),
        "vit": Architecture(
            example="google/vit-base-patch16-224",
            config_class="ViTConfig",
            model_class="ViTModel",
            model_options=_NO_POOLER,
            **_PLAIN,
        ),
        "deit": Architecture(
            example="facebook/deit-base-distilled-patch16-224",
            config_class="DeiTConfig",
            model_class="DeiTModel",
            processor="DeiTImageProcessor",
            n_special_tokens=2,
            model_options=_NO_POOLER,
            **_PLAIN,
        ),
        "beit": Architecture(
            example="microsoft/beit-base-patch16-224",
            config_class="BeitConfig",
            model_class="BeitModel",
            processor="BeitImageProcessor",
            model_options=_NO_POOLER,
            attention=Addition("attention", "lambda_1"),
            mlp=Addition("mlp", "lambda_2"),
        ),
        "vit_mae": Architecture(
            example="facebook/vit-mae-base",
            config_class="ViTMAEConfig",
            model_class="ViTMAEModel",
            inputs="ordered_patches",
            config_changes=MappingProxyType({"mask_ratio": 0.0}),
            **_PLAIN,
        ),
        "clip_vision_model": Architecture(
            example="openai/clip-vit-base-patch16",
            config_class="CLIPVisionConfig",
            model_class="CLIPVisionModel",
            processor="CLIPImageProcessor",
            embedding=Embedding("visual_projection", "CLIPVisionModelWithProjection", "vision_model."),
            **_TOWER,
        ),
        "siglip_vision_model": Architecture(
            example="google/siglip2-base-patch16-224",
            config_class="SiglipVisionConfig",
            model_class="SiglipVisionModel",
            processor="SiglipImageProcessor",
            has_class_token=False,
            n_special_tokens=0,
            config_changes=_NO_HEAD,
            embedding=Embedding("head"),
            **_TOWER,
        ),
        "siglip2_vision_model": Architecture(
            example="google/siglip2-base-patch16-naflex",
            config_class="Siglip2VisionConfig",
            model_class="Siglip2VisionModel",
            processor="SiglipImageProcessor",
            has_class_token=False,
            n_special_tokens=0,
            interpolation_flag=False,
            inputs="square_patches",
            config_changes=_NO_HEAD,
            embedding=Embedding("head"),
            **_TOWER,
        ),
        "ijepa": Architecture(
            example="facebook/ijepa_vith14_1k",
            config_class="IJepaConfig",
            model_class="IJepaModel",
            has_class_token=False,
            n_special_tokens=0,
            model_options=_NO_POOLER,
            **_PLAIN,
        ),
        "swin": Architecture(
            example="microsoft/swin-base-patch4-window7-224",
            config_class="SwinConfig",
            model_class="SwinModel",
            model_options=_NO_POOLER,
            blocks="encoder.layers.*.blocks.*",
            attention=Addition("drop_path"),
            mlp=Addition("mlp"),
            **_STAGED,
        ),
        "convnext": Architecture(
            example="facebook/convnext-base-224",
            config_class="ConvNextConfig",
            model_class="ConvNextModel",
            blocks="encoder.stages.*.layers.*",
            **_CONVOLUTIONAL,
        ),
        "convnextv2": Architecture(
            example="facebook/convnextv2-base-22k-224",
            config_class="ConvNextV2Config",
            model_class="ConvNextV2Model",
            blocks="encoder.stages.*.layers.*",
            **_CONVOLUTIONAL,
        ),
    }
)

# Image-and-text models, of which only the vision tower is used.
TOWERS: Mapping[str, str] = MappingProxyType(
    {"clip": "clip_vision_model", "siglip": "siglip_vision_model", "siglip2": "siglip2_vision_model"}
)
# Language models that see: the configuration's class. `vision_config` says which vision tower they have.
LANGUAGE_MODELS: Mapping[str, str] = MappingProxyType(
    {
        "llava": "LlavaConfig",
        "llava_next": "LlavaNextConfig",
        "llava_next_video": "LlavaNextVideoConfig",
        "llava_onevision": "LlavaOnevisionConfig",
        "paligemma": "PaliGemmaConfig",
        "vipllava": "VipLlavaConfig",
    }
)
_USUAL_TOWER = MappingProxyType({"llava_onevision": "siglip_vision_model", "paligemma": "siglip_vision_model"})


def is_traceable(model_type: str) -> bool:
    """Whether a type's blocks take and give the residual stream as tokens, as explanations of an image need it."""
    architecture = ARCHITECTURES.get(model_type)
    return architecture is not None and not architecture.is_staged and architecture.inputs == "pixels"


def vision_type(config: Mapping[str, Any], name: str) -> str:
    """The key in `ARCHITECTURES` for the content of a model's config.json.

    Raises:
        UserError: the type is not supported.
    """
    model_type = config.get("model_type")
    supported = ", ".join(sorted([*ARCHITECTURES, *TOWERS, *LANGUAGE_MODELS]))
    if not isinstance(model_type, str):
        raise UserError(f"{name}: its config.json names no model_type; supported are {supported}")
    found = TOWERS.get(model_type, model_type)
    if model_type in LANGUAGE_MODELS:
        tower = config.get("vision_config")
        usual = _USUAL_TOWER.get(model_type, "clip_vision_model")
        named = tower.get("model_type", usual) if isinstance(tower, Mapping) else usual
        found = named if isinstance(named, str) else ""
        if found not in ARCHITECTURES:
            raise UserError(
                f"{name} sees through a vision tower of type {found or named}, which is not supported: choose one"
                f" with {', '.join(sorted(ARCHITECTURES))}"
            )
    if found in ARCHITECTURES:
        return found
    raise UserError(
        f"{name} is of type {model_type}, which is no supported vision model with blocks: choose one of type"
        f" {supported}, or a model of timm or open_clip (timm:NAME, open_clip:NAME/PRETRAINED)"
    )
