"""The last steps of an image processor, from a scaled image's bytes to the model's input, by a table.

Cropping picks pixels, and rescaling and normalising give every byte of a channel one number. A table of the 3 x 256
numbers is several times as fast as the processor, which goes over whole float arrays four times, and gives its bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from jaxtyping import Float, Float32
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ColourTable:
    """What a processor makes of scaled images: the middle of the image, each byte replaced.

    Attributes:
        table: float32[3, 256], the number of every byte of a channel.
        image_size: (height, width) of the result.
    """

    table: Float32[np.ndarray, "3 256"]
    image_size: tuple[int, int]

    def fits(self, image: PIL.Image.Image) -> bool:
        """Whether an image is large enough to be cropped; the processor fills up a smaller one in its own way."""
        height, width = self.image_size
        return image.mode == "RGB" and image.height >= height and image.width >= width

    def __call__(self, image: PIL.Image.Image) -> Float[Tensor, "1 3 height width"]:
        """The model's input for an RGB image that `fits`, float32[1, 3, height, width]."""
        height, width = self.image_size
        top, left = (image.height - height) // 2, (image.width - width) // 2
        pixels = np.asarray(image)[top : top + height, left : left + width]
        values = np.empty((1, 3, height, width), np.float32)
        for channel in range(3):
            # A byte is always in the table; "clip" spares a copy of the result.
            np.take(self.table[channel], pixels[:, :, channel], out=values[0, channel], mode="clip")
        return torch.from_numpy(values)


def colour_table(
    processed: Callable[[PIL.Image.Image], Float[Tensor, "1 3 height width"]], image_size: tuple[int, int]
) -> ColourTable | None:
    """The table of a processor; whoever uses it compares it with the processor on images.

    Args:
        processed: the processor without its resizing.
        image_size: (height, width) of its results.

    Returns:
        None for images of fewer than 256 pixels, which have no room for all bytes.
    """
    height, width = image_size
    if height * width < 256:
        return None
    grey = (np.arange(height * width) % 256).astype(np.uint8).reshape(height, width)
    values = processed(PIL.Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2)))
    table = values[0].reshape(3, -1)[:, :256].numpy()
    return ColourTable(np.ascontiguousarray(table), image_size)
