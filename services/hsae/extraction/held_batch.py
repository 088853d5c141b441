"""The activations of a batch on their way from the device to the CPU."""

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.spec import n_tokens
from hsae.extraction.config import ExtractionConfig


def n_rows_of_image(backbone: Backbone, extraction: ExtractionConfig) -> int:
    """Rows of one view of an image, the same at every layer."""
    return n_tokens(
        backbone.spec,
        extraction.tokens,
        hook=backbone.hook,
        n_sampled=extraction.patches_per_image,
        layer=backbone.layers[0],
    )


class HeldBatch:
    """Activations of one view of a batch, of all layers, in the stored type.

    They stay on the device until `to_cpu`, which fetches them with one copy: every copy makes the host wait for the
    device, and the device for the host. To spare memory each part is fetched at once, layer by layer.

    Attributes:
        values: of every layer, in the backbone's order, [n_images, n_rows, width] in the stored type.
        is_finite: [n_layers, n_images], whether the float32 values of an image are.
    """

    values: list[Float[Tensor, "n_images n_rows width"]]
    is_finite: Bool[Tensor, "n_layers n_images"]

    def __init__(self, backbone: Backbone, extraction: ExtractionConfig, n_images: int, *, spare_memory: bool) -> None:
        """Nothing is in it yet."""
        self._layers: Sequence[int] = backbone.layers
        self._dtype: torch.dtype = getattr(torch, extraction.dtype)
        n_rows = n_rows_of_image(backbone, extraction)
        self._shapes = [(n_images, n_rows, backbone.shape(layer).width) for layer in self._layers]
        n_flags = len(self._layers) * n_images
        n_bytes = sum(map(math.prod, self._shapes)) * self._dtype.itemsize
        # Values and flags in one piece of memory, so that one copy brings both.
        device = torch.device("cpu") if spare_memory else backbone.device
        self._show(torch.empty(n_bytes + n_flags, dtype=torch.uint8, device=device))

    def put(self, first: int, activations: Mapping[int, Float[Tensor, "part n_rows width"]]) -> None:
        """Add the activations of a part of the images, the first of which is number `first`, by layer."""
        for place, layer in enumerate(self._layers):
            part = activations[layer]
            here = slice(first, first + part.shape[0])
            self.values[place][here].copy_(part)
            self.is_finite[place, here].copy_(torch.isfinite(part).flatten(1).all(1))

    def to_cpu(self) -> None:
        """Fetch everything; the attributes are on the CPU from then on."""
        self._show(self._bytes.cpu())

    def _show(self, memory: Tensor) -> None:
        self._bytes = memory
        self.values = []
        end = 0
        for shape in self._shapes:
            first, end = end, end + math.prod(shape) * self._dtype.itemsize
            self.values.append(memory[first:end].view(self._dtype).view(shape))
        self.is_finite = memory[end:].view(torch.bool).view(len(self._layers), self._shapes[0][0])
