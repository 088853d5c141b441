"""Whether a model keeps its activations in bfloat16, looked at before anything is stored."""

from collections.abc import Iterator

import torch

from hsae.backbones.backbone import Backbone
from hsae.errors import UserError
from hsae.extraction.batches import Batch
from hsae.extraction.config import ExtractionConfig

MIN_COSINE = 0.999
# Enough rows for a mean, and little beside a batch.
_N_IMAGES = 8


def precision_checked(batches: Iterator[Batch], backbone: Backbone, extraction: ExtractionConfig) -> Iterator[Batch]:
    """The same batches; before the first one that has images, those are computed in both precisions and compared.

    Raises:
        UserError: the mean cosine of a layer's rows with those of float32 is below `MIN_COSINE`.
    """
    is_checked = extraction.precision != "bfloat16"
    for batch in batches:
        if not is_checked and batch.images:
            _check(backbone, batch, extraction)
            is_checked = True
        yield batch


def _check(backbone: Backbone, batch: Batch, extraction: ExtractionConfig) -> None:
    pixels = batch.views[0][: min(_N_IMAGES, extraction.images_at_once)]
    narrow = backbone.activations_in("bfloat16", pixels, extraction.tokens)
    exact = backbone.activations_in("float32", pixels, extraction.tokens)
    for layer, values in exact.items():
        if not bool(torch.isfinite(values).all()):
            return  # the model's own fault, and the extraction says of which image
        cosine = float(torch.cosine_similarity(narrow[layer].float(), values, dim=-1).mean())
        if not cosine >= MIN_COSINE:
            raise UserError(
                f"layer {layer} of {backbone.spec.name} in bfloat16 has a mean cosine of {cosine:.4f} with float32 over"
                f" the first {len(pixels)} images, less than {MIN_COSINE}: submit with --compute-dtype float32"
            )
