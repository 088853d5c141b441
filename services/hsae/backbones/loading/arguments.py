"""From pixel values to what the forward of a model of transformers takes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hsae.backbones.architectures import Architecture
from hsae.backbones.inputs import pair


def arguments_of(
    architecture: Architecture, config: Any, image_size: tuple[int, int]
) -> Callable[[Tensor], Mapping[str, Any]]:
    """What makes the arguments of pixel values float[batch, 3, height, width].

    Args:
        architecture: the model's type.
        config: its configuration in transformers.
        image_size: (height, width) of the images.
    """
    options: dict[str, Any] = {}
    if architecture.interpolation_flag:
        options["interpolate_pos_encoding"] = pair(config.image_size) != image_size
    if architecture.inputs == "ordered_patches":
        patch_height, patch_width = pair(config.patch_size)
        n_patches = (image_size[0] // patch_height) * (image_size[1] // patch_width)
        return lambda pixels: options | {"pixel_values": pixels, "noise": _in_order(pixels, n_patches)}
    if architecture.inputs == "square_patches":
        return lambda pixels: options | _patches(pixels, config.patch_size)
    return lambda pixels: options | {"pixel_values": pixels}


def _in_order(pixels: Tensor, n_patches: int) -> Tensor:
    """The numbers by which a masked autoencoder sorts the patches of an image; these leave them as they are."""
    return torch.arange(n_patches, dtype=torch.float32, device=pixels.device).expand(len(pixels), -1)


def _patches(pixels: Tensor, size: int) -> dict[str, Any]:
    """An image as rows of pixels, a row for each patch; within a row the order is row, column, channel."""
    batch, channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    grid = pixels.view(batch, channels, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1)
    # On the CPU: the model reads each number, and a GPU would wait for every one.
    shapes = torch.tensor([[rows, columns]]).expand(batch, -1)
    return {
        "pixel_values": grid.reshape(batch, rows * columns, size * size * channels),
        "pixel_attention_mask": torch.ones(batch, rows * columns, dtype=torch.int64, device=pixels.device),
        "spatial_shapes": shapes,
    }
