"""How large the input of a model of transformers is, and in how many patches it comes."""

import math
from pathlib import Path
from typing import Any

from hsae.backbones.architectures import Architecture
from hsae.backbones.preprocessing import Preprocessing, processor_content
from hsae.errors import UserError

_MOST_DISTORTION = math.log(1.5)
"""Of a grid: images are padded or cut to whole patches."""


def pair(size: Any) -> tuple[int, int]:
    """(height, width) of a size in a configuration; one number means a square."""
    if isinstance(size, int):
        return size, size
    height, width = size
    return height, width


def rows_and_columns(n_patches: int, height_by_width: float) -> tuple[int, int] | None:
    """How many rows and columns of square patches an image has; None: no grid is nearly of its proportions."""
    grids = [(n_rows, n_patches // n_rows) for n_rows in range(1, n_patches + 1) if n_patches % n_rows == 0]
    if not grids:
        return None

    def distortion(grid: tuple[int, int]) -> float:
        return abs(math.log(grid[0] / grid[1] / height_by_width))

    nearest = min(grids, key=distortion)
    return nearest if distortion(nearest) <= _MOST_DISTORTION else None


def preprocessing_of(architecture: Architecture, config: Any, folder: Path, name: str) -> Preprocessing:
    """The preprocessing of a found model.

    A model whose processor keeps an image's proportions, and so gives every image another number of patches, reads a
    square of as many patches as fit.

    Raises:
        UserError: its processor cannot be used.
    """
    content = processor_content(folder)
    if architecture.inputs == "square_patches":
        side = math.isqrt(int(content.get("max_num_patches") or 256)) * int(config.patch_size)
        kept = {key: content[key] for key in _COLOURS if content.get(key) is not None}
        content = kept | {"image_processor_type": architecture.processor, "size": {"height": side, "width": side}}
    return Preprocessing(content, name, architecture.processor)


_COLOURS = ("resample", "image_mean", "image_std", "do_rescale", "rescale_factor", "do_normalize", "do_convert_rgb")


def n_patches_of(config: Any, preprocessing: Preprocessing, name: str) -> int:
    """Patch tokens of one preprocessed image.

    Raises:
        UserError: the image is smaller than one patch.
    """
    height, width = preprocessing.image_size
    patch_height, patch_width = pair(config.patch_size)
    n_patches = (height // patch_height) * (width // patch_width)
    if n_patches == 0:
        raise UserError(
            f"{name}: its preprocessor gives images of {height}×{width} pixels, less than one patch of "
            f"{patch_height}×{patch_width}: correct the sizes in its preprocessor_config.json"
        )
    return n_patches
