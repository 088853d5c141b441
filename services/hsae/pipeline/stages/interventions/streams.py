"""The streams of images after the first edited layer: from stored activations, or from one pass over the images."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from hsae.backbones.backbone import Backbone
from hsae.backbones.spec import BackboneSpec
from hsae.datasets import source_at
from hsae.devices.precision import Precision
from hsae.devices.uploads import uploaded
from hsae.errors import UserError
from hsae.extraction.batches import iterate_batches
from hsae.extraction.listed import listed_images
from hsae.interventions.edits import TokenPlaces, visited
from hsae.interventions.passes import LaterBlocks
from hsae.interventions.readouts import ReadRows
from hsae.pipeline.kinds.interventions.intervene import InterveneRequest
from hsae.pipeline.stages.activation_reader import iterate_plain_images
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.interventions.scene import Scene

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class StreamBatch:
    """Images whose pass stands at the layer.

    Attributes:
        blocks: what follows the layer.
        stream: all tokens after it; where only the class token is stored, and nothing follows, that token.
        images: their numbers in the listing.
        known: by layer all tokens after it, unedited, where the pass has gone so far.
    """

    blocks: LaterBlocks
    stream: Tensor
    images: Int64[np.ndarray, "batch"]
    known: dict[int, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class LastRows:
    """Images that could be read, unedited.

    Attributes:
        images: their numbers in the listing.
        x: the row of the last layer that readouts see of each.
        means: by edited layer the mean of all rows that edits act on.
    """

    images: Int64[np.ndarray, "n"]
    x: Float32[np.ndarray, "n d_model"]
    means: dict[int, Float64[np.ndarray, "d_model"]]


class NoBlocks:
    """What follows the last layer."""

    def resume(self, stream: Tensor, start: int, stop: int) -> Tensor:
        """The stream itself."""
        if start != stop:
            raise ValueError(f"no block follows layer {start}")
        return stream


class Streams:
    """Gives the streams of images, as often as asked.

    Attributes:
        layers: the layers that are edited, ascending.
        layer: the first of them, where passes begin.
        last: the last layer of the backbone, which readouts see.
    """

    def __init__(self, request: InterveneRequest, context: StageContext, scene: Scene, places: TokenPlaces) -> None:
        """Decide where passes begin.

        Raises:
            UserError: stored activations are asked for, and the layer's lack tokens that later blocks read.
        """
        self._request = request
        self._context = context
        self._scene = scene
        self._places = places
        self.layers = tuple(edited.layer for edited in scene.layers)
        self.layer, self.last = self.layers[0], request.model.n_layers - 1
        stored, n_drawn = request.extraction.tokens, request.extraction.patches_per_image
        kept = not n_drawn and tokens_kept(stored, request.model, places, is_last=self.layer == self.last)
        wanted = request.intervene.start
        if wanted == "stored" and not kept:
            there = f"a sample of {n_drawn} patches" if n_drawn else stored
            raise UserError(
                f"layer {self.layer} has no stored tokens that a pass could start from: only {there} of"
                f" {request.model.name} is stored; write `start: images`"
            )
        self.from_stored = kept and wanted != "images"
        self._backbone: Backbone | None = None

    @property
    def precision(self) -> Precision:
        """Of the backbone's products: that of the extraction."""
        return self._request.extraction.precision

    @property
    def rows(self) -> ReadRows:
        """The row of a stream that readouts see."""
        return ReadRows(self._request.model.n_prefix_tokens, self._request.model.has_class_token)

    @property
    def backbone(self) -> Backbone:
        """The whole backbone, loaded when it is first used."""
        if self._backbone is None:
            layers = sorted({*self.layers, self.last})
            self._backbone = Backbone.load(
                self._request.model,
                layers=layers,
                device=self._context.device,
                cache_dir=self._context.settings.model_cache,
                precision=self.precision,
            )
        return self._backbone

    def of(self, images: Int64[np.ndarray, "n"]) -> Iterator[StreamBatch]:
        """The streams of images in the listing's order, a batch at a time; unreadable images are left out."""
        return self._stored(images) if self.from_stored else self._passed(images)

    def after(self, batch: StreamBatch, layer: int) -> Tensor:
        """All tokens of a batch after an edited layer or the last one, unedited; each block is run once."""
        start = max(known for known in batch.known if known <= layer)
        if start < layer:
            with torch.no_grad():
                batch.known[layer] = batch.blocks.resume(batch.known[start], start, layer)
        return batch.known[layer]

    def last_rows(self, images: Int64[np.ndarray, "n"]) -> LastRows:
        """The rows of images, as many as could be read."""
        numbers, found = [], []
        totals, n_rows = {layer: torch.zeros((), dtype=torch.float64) for layer in self.layers}, 0
        with torch.no_grad():
            for batch in self.of(images):
                for layer in self.layers:
                    here = visited(self.after(batch, layer), self._places).x
                    totals[layer] = totals[layer] + here.double().sum(0).cpu()
                n_rows += len(here)
                numbers.append(batch.images)
                found.append(self.rows(self.after(batch, self.last)).cpu().numpy())
                self._context.check()
        if not numbers:
            raise UserError("no image that trains the readouts could be read: check the images")
        means = {layer: (total / n_rows).numpy() for layer, total in totals.items()}
        return LastRows(np.concatenate(numbers), np.concatenate(found), means)

    def _stored(self, images: Int64[np.ndarray, "n"]) -> Iterator[StreamBatch]:
        wanted = self._scene.wanted(images)
        size = self._request.images_at_once
        blocks: LaterBlocks = NoBlocks()
        if self.last > self.layer:
            # How the model calls its blocks depends on the size of an image and not on what it shows.
            height, width = self.backbone.preprocessing.image_size
            blocks = self.backbone.recorded(torch.zeros(1, 3, height, width))
        for plain in iterate_plain_images(self._context, self._scene.layers[0].manifest):
            index = plain.image_index.numpy().astype(np.int64)
            chosen = np.flatnonzero(wanted[index])
            for start in range(0, len(chosen), size):
                part = chosen[start : start + size]
                stream = uploaded(plain.activations[torch.from_numpy(part)], self._context.device)
                yield StreamBatch(blocks, stream, index[part], {self.layer: stream})

    def _passed(self, images: Int64[np.ndarray, "n"]) -> Iterator[StreamBatch]:
        request, scene = self._request, self._scene
        extraction = request.extraction.model_copy(
            update={"batch_size": request.images_at_once, "n_views": 1, "seed": 0}
        )
        listed = listed_images(scene.listing, images.tolist())
        for batch in iterate_batches(self.backbone, source_at(request.dataset.root), listed, extraction):
            for skipped in batch.skipped:
                log.warning("image %s is left out: it could not be read", skipped.path)
            if not batch.images:
                continue
            recorded = self.backbone.recorded(batch.views[0])
            numbers = np.array(batch.images, np.int64)
            yield StreamBatch(recorded, recorded.streams[self.layer], numbers, recorded.streams)


def tokens_kept(stored: str, spec: BackboneSpec, places: TokenPlaces, *, is_last: bool) -> bool:
    """Whether stored activations of a layer, none of them drawn, have all that later blocks, edits and readouts read.

    Patch tokens are all tokens where the backbone has no others. After the last block nothing mixes tokens, so that the
    class token suffices where it alone is edited and read.
    """
    if stored == "patches":
        return spec.n_prefix_tokens == 0
    return stored == "cls" and is_last and spec.has_class_token and places == TokenPlaces((0,))
