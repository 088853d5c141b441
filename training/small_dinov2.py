"""The demo's model: its shape, its image processor, and how both are saved."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

IMAGE_SIDE_PX = 64
# DINOv2's own normalisation (ImageNet's channel means and deviations)
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)
# Amplitude of the first position embeddings: the size of the first patch embeddings.
POSITION_SCALE = 0.3


def place_positions(backbone: Dinov2Model) -> None:
    """Start the patches' position embeddings as sines and cosines of row and column (Beyer et al. 2022)."""
    positions = backbone.embeddings.position_embeddings
    side = math.isqrt(positions.shape[1] - 1)
    n_waves = positions.shape[2] // 4
    waves = 100.0 ** (-torch.arange(n_waves) / n_waves)
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [place.reshape(-1, 1) * waves for place in (row, column)]
    with torch.no_grad():
        positions[0, 1:] = POSITION_SCALE * torch.cat([wave(a) for a in angles for wave in (torch.sin, torch.cos)], 1)


def new_backbone() -> Dinov2Model:
    """A fresh Dinov2Model: 6 blocks, d_model 192, 64 patches of 8 px, 2.7 million parameters."""
    return Dinov2Model(
        Dinov2Config(
            hidden_size=192,
            num_hidden_layers=6,
            num_attention_heads=3,
            mlp_ratio=4,
            patch_size=8,
            image_size=IMAGE_SIDE_PX,
            layerscale_value=1.0,
            drop_path_rate=0.05,
            use_mask_token=True,
            use_swiglu_ffn=False,
        )
    )


def processing() -> dict[str, Any]:
    """What an image processor does with an image, for a model of this image size."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": IMAGE_SIDE_PX},
        "resample": Image.Resampling.BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": IMAGE_SIDE_PX, "width": IMAGE_SIDE_PX},
        "do_rescale": True,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": True,
        "image_mean": list(CHANNEL_MEAN),
        "image_std": list(CHANNEL_STD),
        "do_convert_rgb": True,
    }


def new_processor() -> BitImageProcessorPil:
    """The image processor that DINOv2 models ship, for this model's image size."""
    return BitImageProcessorPil(**processing())


def save_backbone(backbone: Dinov2Model, out: Path) -> None:
    """Write config.json, model.safetensors (float16) and preprocessor_config.json to `out`."""
    shipped = copy.deepcopy(backbone).half().eval()
    shipped.config.drop_path_rate = 0.0  # a training matter: readers of the config should not see dropout
    shipped.save_pretrained(out)
    # safetensors writes for the owner alone; the package is for everyone
    (out / "model.safetensors").chmod(0o644)
    new_processor().save_pretrained(out)
