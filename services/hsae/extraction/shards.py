"""One pass of a backbone over a range of images: the activations of every layer asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int16, Int32
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.datasets import ImageSource, SkippedImage
from hsae.errors import UserError
from hsae.extraction.batches import iterate_batches
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.patch_sample import drawn_patches
from hsae.extraction.prepare import ListedImage


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The activations of one image range; all layers have the same rows.

    Attributes:
        activations: of every layer, float32 or bfloat16.
        image_index: which image a row is of, as its position in the data set's listing.
        view: 0 for the plain image, above 0 for its augmented views.
        skipped: the images that could not be read.
    """

    activations: dict[int, Float[Tensor, "n_rows d_model"]]
    image_index: Int32[Tensor, "n_rows"]
    view: Int16[Tensor, "n_rows"]
    skipped: tuple[SkippedImage, ...]


def extract_shard(
    backbone: Backbone,
    source: ImageSource,
    listed: Sequence[ListedImage],
    extraction: ExtractionConfig,
    *,
    on_batch: Callable[[int], None],
    micro_batch: int | None = None,
) -> ShardResult:
    """Run the backbone over `listed`.

    The rows come in the order batch, view, image, token.

    Args:
        backbone: with the layers that are asked for.
        source: where the images are read from.
        listed: the images, in the order of the rows.
        extraction: tokens, stored type, views and batches.
        on_batch: called with the number of images of the range that are through; may raise to stop.
        micro_batch: how many images at most are put through the backbone at once; None: a whole batch.

    Raises:
        UserError: for an activation that is NaN or infinite, named by layer and image.
    """
    dtype: torch.dtype = getattr(torch, extraction.dtype)
    paths = {entry.image: entry.path for entry in listed}
    activations: dict[int, list[torch.Tensor]] = {layer: [] for layer in backbone.layers}
    image_index: list[torch.Tensor] = []
    view_index: list[torch.Tensor] = []
    skipped: list[SkippedImage] = []
    n_done = 0
    for batch in iterate_batches(backbone, source, listed, extraction):
        skipped.extend(batch.skipped)
        n_done += len(batch.images) + len(batch.skipped)
        for view, pixel_values in enumerate(batch.views):
            n_tokens = 0
            first = 0
            for part in torch.split(pixel_values, micro_batch or extraction.batch_size):
                of_part = batch.images[first : first + len(part)]
                for layer, found in backbone.activations(part, extraction.tokens).items():
                    values = drawn_patches(found, of_part, view, extraction)
                    finite = torch.isfinite(values).flatten(1).all(1)
                    if not bool(finite.all()):
                        image = of_part[int((~finite).nonzero()[0])]
                        raise UserError(
                            f"layer {layer} of {backbone.spec.name} gives NaN or infinite activations for"
                            f" {paths[image]}: check the model's weights and the image"
                        )
                    n_tokens = values.shape[1]
                    activations[layer].append(values.flatten(0, 1).to("cpu", dtype))
                first += len(part)
            images = torch.tensor(batch.images, dtype=torch.int32)
            image_index.append(images.repeat_interleave(n_tokens))
            view_index.append(torch.full((len(images) * n_tokens,), view, dtype=torch.int16))
        on_batch(n_done)
    # The empty tensors stand for a range of which no image could be read: its shards have no rows.
    rows_image = torch.cat([torch.empty(0, dtype=torch.int32), *image_index])
    rows_view = torch.cat([torch.empty(0, dtype=torch.int16), *view_index])
    joined = {
        # Popped one by one: the parts of a layer are freed before the next layer is joined.
        layer: torch.cat([torch.empty(0, backbone.shape(layer).width, dtype=dtype), *activations.pop(layer)])
        for layer in backbone.layers
    }
    return ShardResult(joined, rows_image, rows_view, tuple(skipped))
