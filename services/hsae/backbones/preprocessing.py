"""A model's own image preprocessing.

It uses the PIL backend if transformers has it, so that results do not depend on whether torchvision is installed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.colours import ColourTable, colour_table
from hsae.backbones.scaling import Scaling, pil_scaling
from hsae.backbones.sources import PROCESSOR_FILES, read_json
from hsae.backbones.spec import check_resizes
from hsae.errors import PreprocessingError, UserError

# Image sizes for which the output size must be the same.
_PROBES = ((640, 480), (480, 640), (50, 50))
# Settings that do not affect the result.
_INERT = ("auto_map", "processor_class", "transformers_version", "feature_extractor_type", "image_processor_type")

# Pixels of an image after scaling, before cropping. 500 x 518 x 518: the longest image that a data set may have, scaled
# for the largest usual input.
MAX_SCALED_PIXELS = 1 << 27
# Bytes of memory per scaled pixel; and per original pixel if the processor resizes in its own way, as torchvision's do.
_SCALED_BYTES = 10
_WHOLE_BYTES = 24
# Of the pixels that are enough on a side to those that are used. At two, what the resizing filter keeps is still there:
# docs/activations.md has what was measured. Of a processor that resizes in its own way only the input's size is known:
# it may crop to that from half as much again.
_ENOUGH = 2
_ENOUGH_OF_INPUT = 3


class Picture(Protocol):
    """An upright image: Pillow's, or one with the same results and less memory."""

    @property
    def mode(self) -> str:
        """As Pillow's."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""

    def resize(self, size: tuple[int, int], resample: int) -> PIL.Image.Image:
        """As Pillow's."""

    def convert(self, mode: str) -> PIL.Image.Image:
        """As Pillow's."""


class Preprocessing:
    """Turns images into a model's input.

    Attributes:
        image_size: (height, width) of the input.
        description: everything that determines the result, as JSON values.
    """

    def __init__(self, content: Mapping[str, Any], name: str, default_processor: str) -> None:
        """Make the processor that a preprocessor file describes.

        Args:
            content: of the file, as `processor_content` reads it.
            name: name of the model, for messages.
            default_processor: image processor to use if the file has no `image_processor_type`, as old files.

        Raises:
            UserError: transformers has no such processor, or needs torchvision for it, which is not installed; or the
                output size depends on the image.
        """
        content = dict(content)
        self._name = name
        base, backend, processor_class = _processor_class(content, name, default_processor)
        try:
            self._processor = processor_class.from_dict(content)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: its image processor settings are no good ({_line(error)})") from error
        self.image_size = self._probe(name)
        self._scaling = self._checked_scaling()
        self._colours = None if self._scaling is None else self._checked_colours(self._scaling)
        described = {
            key: value
            for key, value in self._processor.to_dict().items()
            if value is not None and not key.startswith("_") and key not in _INERT
        }
        described |= {"processor": base, "backend": backend, "image_size": list(self.image_size)}
        self.description: dict[str, Any] = json.loads(json.dumps(described, sort_keys=True))

    def __call__(self, images: Sequence[Picture]) -> Float[Tensor, "batch 3 height width"]:
        """Preprocess images; each image is converted to RGB and processed independently of the others.

        Returns:
            float32[batch, 3, height, width] on the CPU.

        Raises:
            MemoryError: there is too little memory.
            PreprocessingError: the processor fails for another reason.
        """
        if not images:
            return torch.zeros(0, 3, *self.image_size)
        return torch.cat([self._pixel_values(image) for image in images])

    def needed_bytes(self, size: tuple[int, int]) -> int:
        """Approximate peak memory for an image of this size, in bytes, beside its own pixels.

        Raises:
            PreprocessingError: the image would be scaled to more than `MAX_SCALED_PIXELS`.
        """
        if self._scaling is None:
            return size[0] * size[1] * _WHOLE_BYTES
        width, height = self._scaled_size(self._scaling, size)
        return width * (size[1] * 4 + height * _SCALED_BYTES)

    def enough(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (width, height) of an image from which it can be resized about as well as from all of it.

        Args:
            size: (width, height) of the upright image.

        Raises:
            PreprocessingError: as `needed_bytes`.
            UserError: the processor does not resize.
        """
        check_resizes(self.description, self._name)
        if self._scaling is None:
            height, width = self.image_size
            return width * _ENOUGH_OF_INPUT, height * _ENOUGH_OF_INPUT
        width, height = self._scaled_size(self._scaling, size)
        return width * _ENOUGH, height * _ENOUGH

    def _scaled_size(self, scaling: Scaling, size: tuple[int, int]) -> tuple[int, int]:
        width, height = scaling.size(size)
        if not 0 < width * height <= MAX_SCALED_PIXELS:
            raise PreprocessingError(
                f"{size[0]} x {size[1]} pixels, which the model's preprocessing scales to {width} x {height}: "
                f"not within 1 to {MAX_SCALED_PIXELS} pixels"
            )
        return width, height

    def _pixel_values(self, image: Picture) -> Float[Tensor, "1 3 height width"]:
        if self._scaling is None:
            whole = isinstance(image, PIL.Image.Image) and image.mode == "RGB"
            return self._processed(image if whole else image.convert("RGB"))
        size = self._scaled_size(self._scaling, image.size)
        rgb = image if image.mode == "RGB" else image.convert("RGB")
        # Resize here, because the processor would copy the whole image three times.
        scaled = rgb.resize(size, self._scaling.resample)
        if self._colours is not None and self._colours.fits(scaled):
            return self._colours(scaled)
        return self._processed(scaled, do_resize=False)

    def _processed(self, image: Picture, **changes: bool) -> Float[Tensor, "1 3 height width"]:
        try:
            pixel_values: Tensor = self._processor(images=[image], return_tensors="pt", **changes)["pixel_values"]
        except MemoryError:
            raise
        except Exception as error:  # transformers, numpy and torch do not document which exceptions they raise
            if "allocate memory" in str(error):  # a RuntimeError of torch
                raise MemoryError(_line(error)) from error
            raise PreprocessingError(f"the model's preprocessing failed: {_line(error)}") from error
        return pixel_values.float()

    def _checked_scaling(self) -> Scaling | None:
        """How to resize before the processor; None if that does not give the processor's own result."""
        scaling = pil_scaling(self._processor)
        if scaling is None:
            return None
        for image in _noise():
            scaled = image.resize(scaling.size(image.size), PIL.Image.Resampling(scaling.resample))
            if not torch.equal(self._processed(scaled, do_resize=False), self._processed(image)):
                return None
        return scaling

    def _checked_colours(self, scaling: Scaling) -> ColourTable | None:
        """What comes after resizing, as a table; None if that does not give the processor's own bits."""
        colours = colour_table(lambda image: self._processed(image, do_resize=False), self.image_size)
        for image in _noise():
            scaled = image.resize(scaling.size(image.size), PIL.Image.Resampling(scaling.resample))
            if colours is None or not colours.fits(scaled):
                return None
            if not torch.equal(colours(scaled), self._processed(scaled, do_resize=False)):
                return None
        return colours

    def _probe(self, name: str) -> tuple[int, int]:
        shapes = set()
        for size in _PROBES:
            try:
                pixel_values = self._processor(images=[PIL.Image.new("RGB", size)], return_tensors="pt")["pixel_values"]
            except (TypeError, ValueError, KeyError) as error:
                raise UserError(f"{name}: its image processor settings are no good ({_line(error)})") from error
            shapes.add(tuple(pixel_values.shape))
        if len(shapes) != 1 or len(next(iter(shapes))) != 4:
            raise UserError(
                f"{name}: its image processor gives another size for each image; set do_resize and a height and "
                f"width, or do_center_crop and crop_size, in its {PROCESSOR_FILES[0]}"
            )
        _, n_channels, height, width = shapes.pop()
        if n_channels != 3:
            raise UserError(f"{name}: its image processor gives {n_channels} channels, not red, green and blue")
        return height, width


def processor_content(folder: Path) -> dict[str, Any]:
    """What the preprocessor file in a model's folder says of its image processor.

    Raises:
        UserError: it says nothing.
    """
    path = next(folder / file for file in PROCESSOR_FILES if (folder / file).is_file())
    content = read_json(path)
    if path.name == "processor_config.json":
        content = content.get("image_processor") or {}
    if not content:
        raise UserError(f"{path} describes no image processor: add the model's {PROCESSOR_FILES[0]}")
    return dict(content)


def _noise() -> Iterator[PIL.Image.Image]:
    for width, height in _PROBES:
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield PIL.Image.fromarray(noise)


def _processor_class(content: dict[str, Any], name: str, default: str) -> tuple[str, str, Any]:
    # Half a second, which a notebook need not pay that only opens a service.
    import transformers

    named = str(content.get("image_processor_type") or content.get("feature_extractor_type") or default)
    base = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast").removesuffix("Pil")
    for backend, class_name in (("pil", base + "Pil"), ("torchvision", base)):
        found = getattr(transformers, class_name, None)
        if getattr(found, "is_dummy", False):
            raise UserError(
                f"{name}: its image processor {base} needs torchvision, which is not installed: pip install torchvision"
            )
        if isinstance(found, type) and issubclass(found, transformers.BaseImageProcessor):
            return base, backend, found
    raise UserError(
        f"{name}: transformers {transformers.__version__} has no image processor {named}: "
        f"correct image_processor_type in its {PROCESSOR_FILES[0]}"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
