"""Random views of pictograms, made on whole batches of tensors so that two CPU cores are enough.

The pictograms are drawn on white, with four or five drawings a class. A view changes what must not decide the
class: place, size, pose, the paper's colour, the paint's colour, and a missing piece.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

# Rec. 601 luma, the weights of a grey image that looks as bright as the coloured one.
LUMA = (0.299, 0.587, 0.114)
# A pixel this bright in every channel may be paper; WebP leaves white paper a few levels darker near an edge.
PAPER_LEVEL = 240


@dataclass(frozen=True)
class ViewSettings:
    """Ranges of the random view; every probability is per image."""

    zoom: tuple[float, float] = (0.75, 1.15)
    """Size of the drawing relative to the stored image."""
    aspect: float = 0.15
    """Largest absolute log of the width-to-height change."""
    rotation_deg: float = 8.0
    """Standard deviation of the rotation."""
    shear: float = 0.1
    """Largest absolute shear."""
    shift: float = 0.12
    """Largest shift of the drawing, in half widths of the image."""
    white_paper: float = 0.5
    """Probability of white paper; otherwise one random colour."""
    hue_rad: float = 0.2
    """Standard deviation of the rotation of colours about the grey axis."""
    any_hue: float = 0.05
    """Probability of a uniformly random rotation of colours instead."""
    grey: float = 0.1
    """Probability of a greyscale drawing."""
    saturation: tuple[float, float] = (0.7, 1.3)
    contrast: tuple[float, float] = (0.8, 1.2)
    brightness: float = 0.1
    """Largest absolute shift of brightness, of a range of 1."""
    cutout: float = 0.25
    """Probability that one rectangle is painted over."""
    cutout_side: tuple[float, float] = (0.2, 0.5)
    """Sides of that rectangle, relative to the image."""


def drawing_mask(image: Image.Image) -> Image.Image:
    """Mask of the drawing (255) against the white paper connected to the border (0), size as `image`."""
    levels = np.asarray(image.convert("RGB")).min(axis=2)
    # The one pixel wide frame of paper joins all paper that touches the border, so one fill finds it.
    framed = np.pad(np.where(levels >= PAPER_LEVEL, 255, 0).astype(np.uint8), 1, constant_values=255)
    # a copy, because an image over a NumPy buffer is read-only and would ignore the fill
    canvas = Image.fromarray(framed).copy()
    ImageDraw.floodfill(canvas, (0, 0), 128)
    return Image.fromarray(np.where(np.asarray(canvas)[1:-1, 1:-1] == 128, 0, 255).astype(np.uint8))


def _uniform(low: float, high: float, n: int, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def _happens(probability: float, n: int, rng: torch.Generator) -> Tensor:
    return torch.rand(n, generator=rng) < probability


def _placements(n: int, settings: ViewSettings, rng: torch.Generator) -> Tensor:
    """float32[n, 2, 3]: for `affine_grid`, from places in the view to places in the stored image."""
    log_low, log_high = math.log(settings.zoom[0]), math.log(settings.zoom[1])
    zoom = _uniform(log_low, log_high, n, rng).exp()
    aspect = _uniform(-settings.aspect, settings.aspect, n, rng).exp()
    flip = torch.where(_happens(0.5, n, rng), -1.0, 1.0)
    angle = torch.randn(n, generator=rng) * math.radians(settings.rotation_deg)
    shear = _uniform(-settings.shear, settings.shear, n, rng)
    cos, sin = angle.cos(), angle.sin()
    # inverse zoom, because the grid says where each output pixel reads
    scale_x, scale_y = flip * aspect.sqrt() / zoom, 1.0 / (aspect.sqrt() * zoom)
    shift_x, shift_y = (_uniform(-settings.shift, settings.shift, n, rng) for _ in range(2))
    row_x = torch.stack([cos * scale_x, (shear - sin) * scale_x, shift_x], dim=1)
    row_y = torch.stack([sin * scale_y, cos * scale_y, shift_y], dim=1)
    return torch.stack([row_x, row_y], dim=1)


def _colour_changes(n: int, settings: ViewSettings, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """float32[n, 3, 3] and float32[n, 3, 1]: colour -> matrix @ colour + offset."""
    angle = torch.randn(n, generator=rng) * settings.hue_rad
    angle = torch.where(_happens(settings.any_hue, n, rng), _uniform(-math.pi, math.pi, n, rng), angle)
    # Rodrigues' formula about the grey axis (1, 1, 1) / sqrt(3)
    axis = 1.0 / math.sqrt(3.0)
    cross = axis * torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    cos, sin = angle.cos().view(n, 1, 1), angle.sin().view(n, 1, 1)
    hue = cos * torch.eye(3) + sin * cross + (1.0 - cos) / 3.0
    saturation = _uniform(*settings.saturation, n, rng)
    saturation = torch.where(_happens(settings.grey, n, rng), 0.0, saturation).view(n, 1, 1)
    saturate = saturation * torch.eye(3) + (1.0 - saturation) * torch.tensor(LUMA).expand(3, 3)
    contrast = _uniform(*settings.contrast, n, rng).view(n, 1, 1)
    brightness = _uniform(-settings.brightness, settings.brightness, n, rng).view(n, 1, 1)
    offset = (0.5 - 0.5 * contrast + brightness).expand(n, 3, 1)
    return contrast * (saturate @ hue), offset


def _paint_over(views: Tensor, settings: ViewSettings, rng: torch.Generator) -> Tensor:
    """Cover one random rectangle of some views (float32[n, 3, side, side]) with one random colour each."""
    n, _, side, _ = views.shape
    place = torch.arange(side)
    inside = []
    for _ in range(2):
        length = _uniform(*settings.cutout_side, n, rng) * side
        start = torch.rand(n, generator=rng) * (side - length)
        inside.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    covered = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    covered &= _happens(settings.cutout, n, rng).view(n, 1, 1, 1)
    return torch.where(covered, torch.rand(n, 3, 1, 1, generator=rng), views)


def random_views(images: Tensor, masks: Tensor, settings: ViewSettings, rng: torch.Generator) -> Tensor:
    """One random view of each image.

    images: float32[n, 3, side, side], values 0..1.
    masks: float32[n, 1, side, side], 1 on the drawing, 0 on the paper.
    Returns float32[n, 3, side, side], values 0..1.
    """
    n = len(images)
    matrix, offset = _colour_changes(n, settings, rng)
    painted = (torch.bmm(matrix, images.flatten(2)) + offset).clamp(0.0, 1.0).view_as(images)
    # Colour times mask, so that resampling does not mix the paper's white into the drawing's edge.
    layers = torch.cat([painted * masks, masks], dim=1)
    grid = torch.nn.functional.affine_grid(_placements(n, settings, rng), list(layers.shape), align_corners=False)
    layers = torch.nn.functional.grid_sample(layers, grid, align_corners=False)
    paper = torch.rand(n, 3, 1, 1, generator=rng)
    paper = torch.where(_happens(settings.white_paper, n, rng).view(n, 1, 1, 1), 1.0, paper)
    views = layers[:, :3] + (1.0 - layers[:, 3:]) * paper
    return _paint_over(views, settings, rng)
