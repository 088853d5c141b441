"""Hugging Face vision transformers as a list of layers (docs/backbones.md)."""
