"""Images in memory or in files as a backbone's activations: the reading, preprocessing and check of the pipeline."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.spec import Tokens
from hsae.datasets import DecodedImage, ImageFile, UnreadableImageError
from hsae.datasets.decoding.image import decoded
from hsae.datasets.sources.similar_names import similar_name_hint
from hsae.errors import PreprocessingError, UserError
from hsae.extraction.config import Decode, ExtractionConfig

ImageLike = str | Path | PIL.Image.Image | np.ndarray
"""The path of an image file, a Pillow image, or uint8[height, width, 3] or uint8[height, width]."""
_DEFAULTS = ExtractionConfig()
BATCH_SIZE = _DEFAULTS.batch_size
"""Images per forward pass, unless another number is given."""
MAX_PIXELS = _DEFAULTS.max_image_pixels
"""Larger images are refused, as the pipeline does unless it is told otherwise."""


def image_activations(
    backbone: Backbone,
    images: Sequence[ImageLike],
    tokens: Tokens,
    *,
    batch_size: int = BATCH_SIZE,
    dtype: torch.dtype = torch.float32,
    max_pixels: int = MAX_PIXELS,
    decode: Decode = "exact",
) -> Iterator[dict[int, Float[Tensor, "batch n_tokens d_model"]]]:
    """The activations of images, a batch at a time, by layer; float32 on the CPU.

    Args:
        backbone: with the layers that are wanted.
        images: the images.
        tokens: which activations of an image.
        batch_size: images per forward pass.
        dtype: what activations are rounded to, as those that are stored are.
        max_pixels: larger images are refused.
        decode: of image files, as the pipeline decodes them; images in memory are taken as they are.

    Raises:
        UserError: there is no image, one cannot be used, an activation is NaN or infinite, or files are to be decoded
            at a smaller scale for a model that does not resize them.
    """
    numbered = list(enumerate(_listed(images)))
    for start in range(0, len(numbered), max(1, batch_size)):
        batch = numbered[start : start + max(1, batch_size)]
        pixels = torch.cat([_pixel_values(backbone, image, number, max_pixels, decode) for number, image in batch])
        found = {}
        for layer, values in backbone.activations(pixels, tokens).items():
            finite = torch.isfinite(values).flatten(1).all(1)
            if not bool(finite.all()):
                number, image = batch[int((~finite).nonzero()[0])]
                raise UserError(
                    f"layer {layer} of {backbone.spec.name} gives NaN or infinite activations for"
                    f" {_name(image, number)}: check the model's weights and the image"
                )
            found[layer] = values.to("cpu", dtype).float()
        yield found


def pixels_of(
    backbone: Backbone, images: Sequence[ImageLike], max_pixels: int = MAX_PIXELS, decode: Decode = "exact"
) -> list[Float[Tensor, "1 3 height width"]]:
    """Every image, preprocessed. Takes and raises what `image_activations` does."""
    return [_pixel_values(backbone, image, number, max_pixels, decode) for number, image in enumerate(_listed(images))]


def _listed(images: Any) -> Sequence[ImageLike]:
    if isinstance(images, str | Path | PIL.Image.Image):
        raise UserError("give a list of images, such as [image], also for a single one")
    listed = list(images)
    if not listed:
        raise UserError("there is no image: give at least one path, Pillow image or array")
    return listed


def _pixel_values(
    backbone: Backbone, image: ImageLike, number: int, max_pixels: int, decode: Decode
) -> Float[Tensor, "1 3 height width"]:
    name = _name(image, number)
    try:
        if isinstance(image, str | Path):
            with Path(image).expanduser().open("rb") as stream, ImageFile(stream, name, max_pixels=max_pixels) as file:
                if decode == "scaled":
                    file.reduce(backbone.preprocessing.enough)
                return backbone.pixel_values([file.decode()])
        return backbone.pixel_values([_in_memory(image, name, max_pixels)])
    except OSError as error:
        hint = similar_name_hint(Path(str(image))) if isinstance(error, FileNotFoundError) else ""
        raise UserError(f"{name} cannot be read ({error.strerror or error}){hint}") from error
    except (UnreadableImageError, PreprocessingError) as error:
        raise UserError(f"{name} cannot be used: {error}") from error
    except MemoryError as error:
        raise UserError(f"{name} cannot be used: there is not enough memory to prepare it") from error


def _in_memory(image: Any, name: str, max_pixels: int) -> DecodedImage:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
            raise UserError(
                f"{name} is {image.dtype}{list(image.shape)}: give uint8[height, width, 3], or a Pillow image"
            )
        image = PIL.Image.fromarray(image)
    if not isinstance(image, PIL.Image.Image):
        raise UserError(f"{name} is a {type(image).__name__}: give the path of a file, a Pillow image or an array")
    return decoded(image, name, max_pixels=max_pixels)


def _name(image: object, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"image {number}"
