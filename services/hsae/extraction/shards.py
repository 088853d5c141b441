"""One pass of a backbone over a range of images: the activations of every layer asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from jaxtyping import Float, Int16, Int32
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.datasets import ImageSource, SkippedImage
from hsae.devices.numerics import same_bits
from hsae.devices.uploads import OneAhead, uploaded
from hsae.errors import UserError
from hsae.extraction.batches import Batch, iterate_batches
from hsae.extraction.config import ExtractionConfig
from hsae.extraction.held_batch import HeldBatch, n_rows_of_image
from hsae.extraction.listed import ListedImage
from hsae.extraction.patch_sample import drawn_patches


@dataclass(frozen=True, slots=True)
class ShardResult:
    """The activations of one image range; all layers have the same rows.

    Attributes:
        activations: of every layer, float32 or bfloat16.
        image_index: which image a row is of, as its position in the data set's listing.
        view: 0 for the plain image, above 0 for its augmented views.
        skipped: the images that could not be read.
        checksums: sha256 (hex) of the files of the others, by image.
    """

    activations: dict[int, Float[Tensor, "n_rows d_model"]]
    image_index: Int32[Tensor, "n_rows"]
    view: Int16[Tensor, "n_rows"]
    skipped: tuple[SkippedImage, ...]
    checksums: dict[int, str]


def extract_shard(
    backbone: Backbone,
    source: ImageSource,
    listed: Sequence[ListedImage],
    extraction: ExtractionConfig,
    *,
    on_batch: Callable[[int], None],
    spare_memory: bool = False,
    batches: Iterator[Batch] | None = None,
) -> ShardResult:
    """Run the backbone over `listed`.

    The rows come in the order batch, view, image, token.

    Args:
        backbone: with the layers that are asked for.
        source: where the images are read from.
        listed: the images, in the order of the rows.
        extraction: tokens, stored type, views and batches.
        on_batch: called with the number of images of the range that are through; may raise to stop.
        spare_memory: hold as little as possible on the device; slower, with the same bits.
        batches: where the batches of `listed` come next, from `batches_of_ranges`; None: they are read for this call.

    Raises:
        UserError: for an activation that is NaN or infinite, named by layer and image.
    """
    n_tokens = n_rows_of_image(backbone, extraction)
    most_rows = len(listed) * extraction.n_views * n_tokens
    dtype: torch.dtype = getattr(torch, extraction.dtype)
    activations = {layer: torch.empty(most_rows, backbone.shape(layer).width, dtype=dtype) for layer in backbone.layers}
    paths = {entry.image: entry.path for entry in listed}
    image_index: list[torch.Tensor] = []
    view_index: list[torch.Tensor] = []
    skipped: list[SkippedImage] = []
    checksums: dict[int, str] = {}
    n_done = n_rows = 0
    device = backbone.device
    holds_next = device.type == "cuda" and not spare_memory
    if batches is None:
        batches = iterate_batches(backbone, source, listed, extraction)
    n_batches = -(-len(listed) // extraction.batch_size)
    ahead = OneAhead(islice(batches, n_batches), lambda batch: _on_device(batch, device) if holds_next else batch)
    with same_bits(device):
        for batch in ahead:
            skipped.extend(batch.skipped)
            checksums.update(zip(batch.images, batch.checksums, strict=True))
            n_done += len(batch.images) + len(batch.skipped)
            for view, pixel_values in enumerate(batch.views):
                held = HeldBatch(backbone, extraction, len(batch.images), spare_memory=spare_memory)
                first = 0
                for part in torch.split(pixel_values, extraction.images_at_once):
                    held.put(
                        first,
                        _kept(
                            backbone.activations(part, extraction.tokens),
                            batch.images[first : first + len(part)],
                            view,
                            extraction,
                        ),
                    )
                    first += len(part)
                if holds_next:  # the next batch is put together and sent while the device computes this one
                    ahead.look_ahead()
                held.to_cpu()
                _check_finite(held, backbone, [paths[image] for image in batch.images])
                rows = slice(n_rows, n_rows + len(batch.images) * n_tokens)
                for layer, values in zip(backbone.layers, held.values, strict=True):
                    activations[layer][rows] = values.flatten(0, 1)
                n_rows = rows.stop
                image_index.append(torch.tensor(batch.images, dtype=torch.int32).repeat_interleave(n_tokens))
                view_index.append(torch.full((len(batch.images) * n_tokens,), view, dtype=torch.int16))
            on_batch(n_done)
    # The empty tensors stand for a range of which no image could be read: its shards have no rows.
    rows_image = torch.cat([torch.empty(0, dtype=torch.int32), *image_index])
    rows_view = torch.cat([torch.empty(0, dtype=torch.int16), *view_index])
    read = {layer: values[:n_rows] for layer, values in activations.items()}
    return ShardResult(read, rows_image, rows_view, tuple(skipped), checksums)


def _on_device(batch: Batch, device: torch.device) -> Batch:
    return replace(batch, views=tuple(uploaded(view, device) for view in batch.views))


def _kept(
    found: Mapping[int, Float[Tensor, "batch n_tokens width"]],
    images: Sequence[int],
    view: int,
    extraction: ExtractionConfig,
) -> dict[int, Float[Tensor, "batch n_kept width"]]:
    """What is stored of the activations of some images, by layer."""
    return {layer: drawn_patches(values, images, view, extraction) for layer, values in found.items()}


def _check_finite(held: HeldBatch, backbone: Backbone, paths: Sequence[str]) -> None:
    if bool(held.is_finite.all()):
        return
    place, image = (~held.is_finite).nonzero()[0].tolist()
    raise UserError(
        f"layer {backbone.layers[place]} of {backbone.spec.name} gives NaN or infinite activations for"
        f" {paths[image]}: check the model's weights and the image"
    )
