"""A model's own image preprocessing, always on PIL where transformers has it: no result depends on torchvision."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor

from hsae.backbones.sources import PROCESSOR_FILES, read_json
from hsae.errors import UserError

# Sizes and shapes that a fixed output size must not depend on.
_PROBES = ((640, 480), (480, 640), (50, 50))
# What says nothing about the result.
_INERT = ("auto_map", "processor_class", "transformers_version", "feature_extractor_type", "image_processor_type")


class Preprocessing:
    """Turns images into a model's input.

    `image_size`: (height, width) of that input; `description`: everything that determines the result, as JSON
    values.
    """

    def __init__(self, folder: Path, name: str, default_processor: str) -> None:
        """Reads the preprocessor file in `folder`; `name` is the model's, for messages.

        A file without `image_processor_type`, as old ones are, means `default_processor`.

        UserErrors: a processor that transformers does not have, or has for torchvision only while that is not
        installed; one whose output size depends on the image.
        """
        content = _processor_content(folder)
        base, backend, processor_class = _processor_class(content, name, default_processor)
        try:
            self._processor = processor_class.from_dict(content)
        except (TypeError, ValueError) as error:
            raise UserError(f"{name}: its image processor settings are no good ({_line(error)})") from error
        self.image_size = self._probe(name)
        described = {
            key: value
            for key, value in self._processor.to_dict().items()
            if value is not None and not key.startswith("_") and key not in _INERT
        }
        described |= {"processor": base, "backend": backend, "image_size": list(self.image_size)}
        self.description: dict[str, Any] = json.loads(json.dumps(described, sort_keys=True))

    def __call__(self, images: Sequence[PIL.Image.Image]) -> Float[Tensor, "batch 3 height width"]:
        """float32 `[batch, 3, height, width]` on the CPU."""
        if not images:
            return torch.zeros(0, 3, *self.image_size)
        rgb = [image if image.mode == "RGB" else image.convert("RGB") for image in images]
        pixel_values: Tensor = self._processor(images=rgb, return_tensors="pt")["pixel_values"]
        return pixel_values.float()

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


def _processor_content(folder: Path) -> dict[str, Any]:
    path = next(folder / file for file in PROCESSOR_FILES if (folder / file).is_file())
    content = read_json(path)
    if path.name == "processor_config.json":
        content = content.get("image_processor") or {}
    if not content:
        raise UserError(f"{path} describes no image processor: add the model's {PROCESSOR_FILES[0]}")
    return dict(content)


def _processor_class(content: dict[str, Any], name: str, default: str) -> tuple[str, str, Any]:
    import transformers  # late: it takes seconds

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
