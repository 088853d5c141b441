"""Maps as pictures: over the part of the image that the model saw, in a perceptually uniform colour map."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

COLOURS = "inferno"
"""Matplotlib's name of the colour map: equal steps of relevancy look equal, for any colour vision and in grey."""
_OPACITY = 0.65
_GAP = 4
_EMPTY = (235, 235, 235)


class VisiblePart(NamedTuple):
    """The part of an image that a model sees, as shares of its width and height; outside 0 to 1 where it is padded."""

    left: float
    top: float
    right: float
    bottom: float


def visible_part(preprocessing: Mapping[str, Any], size: tuple[int, int]) -> VisiblePart:
    """The part of an image that preprocessing leaves: all of it, or the middle.

    Args:
        preprocessing: as `model.preprocessing` of the catalog describes it.
        size: (width, height) of the image, or of a smaller picture of it.
    """
    height, width = preprocessing["image_size"]
    if not preprocessing.get("do_center_crop"):
        return VisiblePart(0.0, 0.0, 1.0, 1.0)
    rule = preprocessing.get("size") or {}
    scaled_width, scaled_height = float(size[0]), float(size[1])
    if preprocessing.get("do_resize", True) and rule.get("shortest_edge"):
        scale = rule["shortest_edge"] / min(size)
        scaled_width, scaled_height = size[0] * scale, size[1] * scale
    elif preprocessing.get("do_resize", True) and rule.get("height") and rule.get("width"):
        scaled_width, scaled_height = rule["width"], rule["height"]
    across, down = width / scaled_width / 2, height / scaled_height / 2
    return VisiblePart(0.5 - across, 0.5 - down, 0.5 + across, 0.5 + down)


def overlay(
    image: Image.Image, values: Float[np.ndarray, "n_patch_rows n_patch_cols"], part: VisiblePart
) -> Image.Image:
    """The image in grey with the map over the part that the model saw.

    Args:
        image: the whole image, RGB.
        values: the map, 0 to 1.
        part: see `visible_part`.
    """
    from matplotlib import colormaps  # half a second: only who draws needs it

    colours = (colormaps[COLOURS](np.clip(values.astype(np.float64), 0, 1))[..., :3] * 255).round().astype(np.uint8)
    width, height = image.size
    left, top = round(part.left * width), round(part.top * height)
    size = (max(1, round(part.right * width) - left), max(1, round(part.bottom * height) - top))
    grey = image.convert("L").convert("RGB")
    covered = grey.crop((left, top, left + size[0], top + size[1]))
    heat = Image.fromarray(colours).resize(size, Image.Resampling.BILINEAR)
    grey.paste(Image.blend(covered, heat, _OPACITY), (left, top))
    return grey


def sheet(rows: Sequence[Sequence[Image.Image | None]], side: int) -> Image.Image:
    """Pictures in rows and columns, each in a square of `side` pixels; None leaves the square empty."""
    n_columns = max((len(row) for row in rows), default=1)
    step = side + _GAP
    whole = Image.new("RGB", (n_columns * step - _GAP, max(1, len(rows)) * step - _GAP), "white")
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            square = Image.new("RGB", (side, side), _EMPTY if picture is None else "white")
            if picture is not None:
                small = picture.copy()
                small.thumbnail((side, side), Image.Resampling.LANCZOS)
                square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
            whole.paste(square, (j * step, i * step))
    return whole
