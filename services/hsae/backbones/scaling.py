"""The resizing step of an image processor. hsae does it itself for images that are read in bands."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a processor with the PIL backend resizes.

    Attributes:
        size_rule: the processor's rule for the size.
        resample: Pillow's filter.
    """

    size_rule: Any
    resample: int

    def size(self, original: tuple[int, int]) -> tuple[int, int]:
        """(width, height) of an image of this size after resizing.

        Raises:
            ValueError: the rule gives no size.
        """
        # As in `hsae.backbones.preprocessing`.
        from transformers import image_transforms, image_utils

        rule = self.size_rule
        width, height = original
        if rule.shortest_edge and rule.longest_edge:
            sizes = image_transforms.get_size_with_aspect_ratio((height, width), rule.shortest_edge, rule.longest_edge)
        elif rule.shortest_edge:
            # Only the shape is used; the array is a broadcast single element.
            shape = np.broadcast_to(np.uint8(0), (3, height, width))
            sizes = image_transforms.get_resize_output_image_size(
                shape, size=rule.shortest_edge, default_to_square=False, input_data_format="channels_first"
            )
        elif rule.max_height and rule.max_width:
            sizes = image_utils.get_image_size_for_max_height_width((height, width), rule.max_height, rule.max_width)
        elif rule.height and rule.width:
            sizes = (rule.height, rule.width)
        else:
            raise ValueError(f"size {rule} is none that can be resized to")
        return int(sizes[1]), int(sizes[0])


def pil_scaling(processor: Any) -> Scaling | None:
    """The resizing of a processor; None if it does not resize, or resizes in its own way."""
    # As above; this module of it takes two seconds more.
    from transformers.image_processing_backends import PilBackend

    kind = type(processor)
    own = ("preprocess", "_preprocess_image_like_inputs", "_preprocess", "process_image", "convert_to_rgb", "resize")
    if not issubclass(kind, PilBackend) or any(getattr(kind, name) is not getattr(PilBackend, name) for name in own):
        return None
    if not processor.do_resize or not isinstance(processor.resample, int) or processor.size is None:
        return None
    return Scaling(processor.size, int(processor.resample))
