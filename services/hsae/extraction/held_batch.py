"""The activations of a batch on their way from the device to the CPU."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.spec import Tokens
from hsae.extraction.config import ExtractionConfig


def n_tokens_of(backbone: Backbone, tokens: Tokens) -> int:
    """Rows per image."""
    return backbone.spec.n_patches if tokens == "patches" else 1


class HeldBatch:
    """Activations of one view of a batch, of all layers, in the stored type.

    They stay on the device until `to_cpu`, which fetches them with one copy: every copy makes the host wait for the
    device, and the device for the host. To spare memory each part is fetched at once, layer by layer.

    Attributes:
        values: [n_layers, n_images, n_tokens, d_model] in the stored type; layers in the backbone's order.
        is_finite: [n_layers, n_images], whether the float32 values of an image are.
    """

    values: Float[Tensor, "n_layers n_images n_tokens d_model"]
    is_finite: Bool[Tensor, "n_layers n_images"]

    def __init__(self, backbone: Backbone, extraction: ExtractionConfig, n_images: int, *, spare_memory: bool) -> None:
        """Nothing is in it yet."""
        self._layers: Sequence[int] = backbone.layers
        dtype: torch.dtype = getattr(torch, extraction.dtype)
        of_image = n_tokens_of(backbone, extraction.tokens) * backbone.spec.d_model
        n_flags = len(self._layers) * n_images
        self._n_value_bytes = n_flags * of_image * dtype.itemsize
        self._shape = (len(self._layers), n_images, of_image // backbone.spec.d_model, backbone.spec.d_model)
        self._dtype = dtype
        # Values and flags in one piece of memory, so that one copy brings both.
        device = torch.device("cpu") if spare_memory else backbone.device
        self._show(torch.empty(self._n_value_bytes + n_flags, dtype=torch.uint8, device=device))

    def put(self, first: int, activations: Mapping[int, Float[Tensor, "part n_tokens d_model"]]) -> None:
        """Add the activations of a part of the images, the first of which is number `first`, by layer."""
        for place, layer in enumerate(self._layers):
            part = activations[layer]
            here = slice(first, first + part.shape[0])
            self.values[place, here].copy_(part)
            self.is_finite[place, here].copy_(torch.isfinite(part).flatten(1).all(1))

    def to_cpu(self) -> None:
        """Fetch everything; the attributes are on the CPU from then on."""
        self._show(self._bytes.cpu())

    def _show(self, memory: Tensor) -> None:
        self._bytes = memory
        self.values = memory[: self._n_value_bytes].view(self._dtype).view(self._shape)
        self.is_finite = memory[self._n_value_bytes :].view(torch.bool).view(self._shape[:2])
