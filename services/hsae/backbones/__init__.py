"""Hugging Face vision transformers as a list of layers (docs/backbones.md)."""

from hsae.backbones.backbone import Backbone
from hsae.backbones.spec import BackboneSpec, Tokens, check_layers, check_tokens, inspect_backbone, n_tokens

__all__ = [
    "Backbone",
    "BackboneSpec",
    "Tokens",
    "check_layers",
    "check_tokens",
    "inspect_backbone",
    "n_tokens",
]
