"""A relevancy map over the picture of its image."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32
from matplotlib import colormaps
from PIL import Image

_FAINTEST, _STRONGEST = 0.15, 0.75
"""How much of the map's colour covers the image where a patch is irrelevant, and where it is the most relevant one."""
_UNSEEN = 0.35
"""Brightness of the part that the model did not see."""


def seen_part(preprocessing: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The part of an upright image that a model sees, as shares of its width and height: left, top, right, bottom.

    Args:
        preprocessing: as the catalog describes it.
        size: (width, height) of the image, or of a smaller picture of it.
    """
    crop = preprocessing.get("crop_size")
    if not preprocessing.get("do_center_crop") or not isinstance(crop, Mapping):
        return 0.0, 0.0, 1.0, 1.0
    scaled = _scaled(preprocessing, size)
    shares = []
    for full, kept in zip(scaled, (crop["width"], crop["height"]), strict=True):
        share = min(1.0, kept / full)
        shares.append(((1 - share) / 2, (1 + share) / 2))
    (left, right), (top, bottom) = shares
    return left, top, right, bottom


def _scaled(preprocessing: Mapping[str, Any], size: tuple[int, int]) -> tuple[float, float]:
    """(width, height) of the image before it is cropped."""
    wanted = preprocessing.get("size")
    if not preprocessing.get("do_resize") or not isinstance(wanted, Mapping):
        return size
    if "shortest_edge" in wanted:
        scale = wanted["shortest_edge"] / min(size)
        return size[0] * scale, size[1] * scale
    return wanted["width"], wanted["height"]


def heated(
    picture: Image.Image,
    values: Float32[np.ndarray, "n_patch_rows n_patch_cols"],
    preprocessing: Mapping[str, Any],
) -> Image.Image:
    """The picture with the map's colours over the part that the model saw, and the rest darkened.

    Args:
        picture: RGB, the whole image at any size.
        values: of every patch, 1 for the most relevant one.
        preprocessing: as for `seen_part`.
    """
    width, height = picture.size
    left, top, right, bottom = seen_part(preprocessing, picture.size)
    box = (round(left * width), round(top * height), max(round(right * width), 1), max(round(bottom * height), 1))
    patches = Image.fromarray(np.clip(np.nan_to_num(values), 0.0, 1.0).astype(np.float32))
    fine = np.asarray(patches.resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.BILINEAR))
    colours = colormaps["inferno"](fine)[..., :3] * 255
    cover = (_FAINTEST + (_STRONGEST - _FAINTEST) * fine)[..., np.newaxis]
    pixels = np.asarray(picture, np.float32)
    result = pixels * _UNSEEN
    result[box[1] : box[3], box[0] : box[2]] = pixels[box[1] : box[3], box[0] : box[2]] * (1 - cover) + colours * cover
    return Image.fromarray(np.rint(result).astype(np.uint8))
