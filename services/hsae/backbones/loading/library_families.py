"""The supported models of timm and open_clip: where their blocks lie. Each has a test against the library itself."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from hsae.backbones.hooks.family import Addition, Embedding, Family

_TOKENS = Family(blocks="blocks.*", attention=Addition("drop_path1"), mlp=Addition("drop_path2"))
# By the class of the model in timm, also of its subclasses.
TIMM: Mapping[str, Family] = MappingProxyType(
    {
        "VisionTransformer": replace(_TOKENS, example="timm:vit_base_patch14_dinov2"),
        "Eva": replace(_TOKENS, example="timm:eva02_base_patch14_224.mim_in22k"),
        "Beit": replace(_TOKENS, example="timm:beitv2_base_patch16_224"),
        "SwinTransformer": Family(
            example="timm:swin_base_patch4_window7_224",
            blocks="layers.*.blocks.*",
            attention=Addition("drop_path1"),
            mlp=Addition("drop_path2"),
            is_staged=True,
        ),
        "SwinTransformerV2": Family(
            example="timm:swinv2_base_window8_256",
            blocks="layers.*.blocks.*",
            attention=Addition("drop_path1"),
            mlp=Addition("drop_path2"),
            is_staged=True,
        ),
        "ConvNeXt": Family(
            example="timm:convnext_base",
            blocks="stages.*.blocks.*",
            mlp=Addition("drop_path"),
            is_staged=True,
            map_axes="channels_first",
        ),
    }
)

OPEN_CLIP = Family(
    example="open_clip:ViT-B-32/laion2b_s34b_b79k",
    blocks="transformer.resblocks.*",
    attention=Addition("ls_1"),
    mlp=Addition("ls_2"),
    embedding=Embedding(""),
)
