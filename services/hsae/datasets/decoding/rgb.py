"""The pixels of a decoded image as 8-bit RGB; every rule here depends on one pixel at a time."""

import numpy as np
from PIL import Image

from hsae.datasets.decoding.unreadable import UnreadableImageError


def check_range(image: Image.Image) -> None:
    """Check that 32-bit integers are within 0..65535.

    Raises:
        UnreadableImageError: they are not.
    """
    if image.mode != "I":
        return
    low, high = image.getextrema()
    if low < 0 or high > 65535:  # type: ignore[operator]
        raise UnreadableImageError(f"32-bit grey values {low}..{high}, outside 0..65535: their white is unknown")


def as_rgb(image: Image.Image) -> Image.Image:
    """A new image: transparency composed on white, 16-bit and floating-point grey scaled to 8 bits."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _grey16_as_rgb(image)
    if image.mode == "F":
        return _float_as_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _grey16_as_rgb(image: Image.Image) -> Image.Image:
    grey = np.asarray(image).astype(np.int32)
    scaled = ((grey + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257, rounded to nearest
    transparent = image.info.get("transparency")  # PNG: one grey value is see-through
    if isinstance(transparent, int):
        scaled[grey == transparent] = 255
    return Image.fromarray(scaled).convert("RGB")


def _float_as_rgb(image: Image.Image) -> Image.Image:
    grey = np.asarray(image)
    if not (grey >= 0).all() or not (grey <= 1).all():  # NaN fails both
        raise UnreadableImageError("floating-point grey values outside 0..1: their white is unknown")
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")
