"""Opens one image file, whatever its kind, as plain 8-bit RGB, or says in a few words why it cannot."""

import errno
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Named, so that each plugin is registered before threads start, and no other is ever asked: files come from
# anywhere, and fewer decoders are a narrower door.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.ExifTags import Base as ExifTag

from hsae.errors import HsaeError, UserError

_FORMATS = tuple(
    str(plugin.format)
    for plugin in (
        AvifImagePlugin.AvifImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        PpmImagePlugin.PpmImageFile,
        TiffImagePlugin.TiffImageFile,
        WebPImagePlugin.WebPImageFile,
    )
)

# Images are read several at a time already; more threads would only take the cores from one another.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

# EXIF 2.32, table 4.6.4: what undoes each orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImageError(HsaeError):
    """This file is no image that can be used; `reason` is one line, the same each time."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def open_image(path: Path, *, max_pixels: int) -> Image.Image:
    """Decode an image file: 8-bit RGB, upright, the first frame of an animation.

    Transparency is laid on white. Grey and colours of more than 8 bits are scaled to 8, and so are 32-bit integers
    within 0..65535 and floats within 0..1. Embedded colour profiles are not applied.

    max_pixels: width x height, checked on the header, before anything is decoded.

    Raises `UnreadableImageError` for a file that is empty, damaged, too large or no image of a format of
    `_FORMATS`; `UserError` where the file itself is missing or cannot be read.
    """
    _raise_pillow_limit(max_pixels)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise UnreadableImageError("the file is empty")
            return _decode(file, max_pixels)
    except OSError as error:
        raise UserError(f"image {path}: cannot be read ({error.strerror or error})") from error


def _raise_pillow_limit(max_pixels: int) -> None:
    """Keep Pillow's own limit, which is global, from refusing what `max_pixels` allows."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


def _decode(file: BinaryIO, max_pixels: int) -> Image.Image:
    too_large = f"more than the limit of {max_pixels} pixels"
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise UnreadableImageError(f"{image.width} x {image.height} pixels, {too_large}")
            image.load()
            rgb = _as_rgb(image)
            method = _UPRIGHT.get(_orientation(image))
            return rgb if method is None else rgb.transpose(method)
    except UnreadableImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImageError(too_large) from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(f"not a readable {', '.join(_FORMATS)} image") from error
    # Pillow's decoders name no set of exceptions for damaged data, and anything from struct.error to
    # MemoryError does occur; the cause stays attached.
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault, not the image's; EINVAL: damaged offsets make Pillow seek below zero
        reason = " ".join(f"damaged image: {error or type(error).__name__}".split())
        raise UnreadableImageError(reason) from error


def _as_rgb(image: Image.Image) -> Image.Image:
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
    low, high = int(grey.min()), int(grey.max())
    if low < 0 or high > 65535:
        raise UnreadableImageError(f"32-bit grey values {low}..{high}, outside 0..65535: their white is unknown")
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


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the EXIF block is damaged.

    Viewers show an image whose pixels are sound and whose EXIF is not; so do we.
    """
    try:
        orientation = image.getexif().get(ExifTag.Orientation, 1)
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, OverflowError, struct.error):
        return 1
    return orientation if isinstance(orientation, int) else 1
