"""Augmented views: further training rows for small data sets, never scored."""

import numpy as np
from PIL import Image, ImageEnhance

# What a view takes at a time, per pixel of its image: the whole, the crop, and two more while the colours change.
VIEW_BYTES = 16

_MIN_AREA = 0.4
_MAX_ASPECT = 4 / 3
_JITTER = 0.2


def augmented_view(image: Image.Image, *, seed: int, index: int, view: int) -> Image.Image:
    """A random crop of 40 to 100 % of the area, mirrored half of the time, with slightly changed colours.

    A function of (seed, index of the image, view) and nothing else, so a rerun gives the same pixels.
    """
    rng = np.random.default_rng([seed, index, view])
    width, height = image.size
    area = width * height * rng.uniform(_MIN_AREA, 1.0)
    aspect = np.exp(rng.uniform(-np.log(_MAX_ASPECT), np.log(_MAX_ASPECT))) * width / height
    crop_width = min(width, max(1, round(np.sqrt(area * aspect))))
    crop_height = min(height, max(1, round(np.sqrt(area / aspect))))
    left = int(rng.integers(0, width - crop_width + 1))
    top = int(rng.integers(0, height - crop_height + 1))
    result = image.crop((left, top, left + crop_width, top + crop_height))
    if rng.random() < 0.5:
        result = result.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        result = enhance(result).enhance(float(rng.uniform(1 - _JITTER, 1 + _JITTER)))
    return result
