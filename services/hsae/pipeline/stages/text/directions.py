"""What latents stand for in the space of words: their directions, what ablating them takes, or their images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from hsae.backbones.backbone import Backbone
from hsae.datasets import source_at
from hsae.errors import UserError
from hsae.extraction.batches import Batch, iterate_batches
from hsae.extraction.listed import listed_images
from hsae.interventions.edits import TokenPlaces
from hsae.pipeline.inputs.stored import read_listing
from hsae.pipeline.kinds.text.names import NAME, NameRequest
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.stages.text.embedding import load_embedding
from hsae.sae.model import SparseAutoencoder
from hsae.text.effects import EffectOf, Effects, EmbeddedPass, add_effects


@dataclass(frozen=True, slots=True, eq=False)
class Strongest:
    """The strongest images of latents.

    Attributes:
        latents: the latents.
        images: of each the numbers of its images in the listing, the strongest first; none where it never fires.
    """

    latents: Int64[np.ndarray, "n_latents"]
    images: Sequence[Int64[np.ndarray, "n"]]

    @property
    def distinct(self) -> Int64[np.ndarray, "m"]:
        """All of them, each once."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *self.images]))


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """What latents stand for.

    Attributes:
        vectors: 0 of a latent of which nothing is known.
        n_images: images that were looked at, for each latent; None: none were needed.
    """

    vectors: Float64[Tensor, "n_latents d_embedding"]
    n_images: Int64[np.ndarray, "n_latents"] | None


def decoder_directions(sae: SparseAutoencoder, latents: Int64[np.ndarray, "n_latents"]) -> Directions:
    """The latents' decoder directions."""
    return Directions(sae.decoder_weight.detach().double().cpu()[torch.from_numpy(latents)], None)


class Looking:
    """Looks at images of the data set."""

    def __init__(self, request: NameRequest, context: StageContext) -> None:
        """Read the listing."""
        self._request = request
        self._context = context
        self._listing: pa.Table = read_listing(context.store, request.dataset)

    def effects(self, sae: SparseAutoencoder, strongest: Strongest) -> Directions:
        """What ablating each latent takes from the embedding of its images."""
        request, context = self._request, self._context
        last = request.model.n_layers - 1
        cache = context.settings.model_cache
        backbone = Backbone.load(
            request.model,
            layers=sorted({request.layer, last}),
            device=context.device,
            cache_dir=cache,
            precision=request.extraction.precision,
        )
        final = self._embedding_of(request.model.name, request.model.revision)
        embedded = EmbeddedPass(
            sae=sae,
            layer=request.layer,
            last=last,
            places=TokenPlaces.of("own", request.extraction.tokens, request.model),
            embed=final.embedding_of,
        )
        of_image: dict[int, list[int]] = {}
        for position, images in enumerate(strongest.images):
            for image in images.tolist():
                of_image.setdefault(image, []).append(position)
        found = Effects(len(strongest.latents))
        for batch in self._batches(backbone, strongest.distinct):
            recorded = backbone.recorded(batch.views[0])
            pairs = [
                EffectOf(row, int(strongest.latents[position]), position)
                for row, image in enumerate(batch.images)
                for position in of_image[image]
            ]
            add_effects(found, embedded, recorded, recorded.streams[request.layer], pairs, request.images_at_once)
        return Directions(found.mean, found.n_images.numpy())

    def by_images(self, strongest: Strongest, others: Int64[np.ndarray, "n"]) -> Directions:
        """The mean embedding of each latent's images by the model with the text tower, less the mean of `others`."""
        request = self._request
        model = self._embedding_of(request.names.by, request.names.revision)
        wanted = np.union1d(strongest.distinct, others)
        numbers: list[int] = []
        rows: list[Tensor] = []
        for batch in self._batches(model, wanted):
            embedded = model.activations(batch.views[0], "cls")[model.layers[-1]][:, 0]
            rows.append(nn.functional.normalize(embedded, dim=1).double().cpu())
            numbers += batch.images
        if not rows:
            raise UserError("no image that names latents could be read: check the images")
        units = torch.cat(rows)
        row_of = {image: row for row, image in enumerate(numbers)}
        mean = units[[row_of[image] for image in others.tolist() if image in row_of]].mean(0)
        vectors = torch.zeros(len(strongest.latents), units.shape[1], dtype=torch.float64)
        n_images = np.zeros(len(strongest.latents), np.int64)
        for position, images in enumerate(strongest.images):
            own = [row_of[image] for image in images.tolist() if image in row_of]
            n_images[position] = len(own)
            if own:
                vectors[position] = units[own].mean(0) - mean
        return Directions(vectors, n_images)

    def _embedding_of(self, name: str, revision: str) -> Backbone:
        cache, precision = self._context.settings.model_cache, self._request.extraction.precision
        return load_embedding(name, revision, self._context.device, cache, precision)

    def _batches(self, backbone: Backbone, images: Int64[np.ndarray, "n"]) -> Iterator[Batch]:
        """The images in the listing's order; those that cannot be read are left out."""
        request, context = self._request, self._context
        extraction = request.extraction.model_copy(
            update={"batch_size": request.images_at_once, "n_views": 1, "seed": 0}
        )
        listed = listed_images(self._listing, images.tolist())
        n_done = 0
        context.progress(0, len(listed), NAME.unit)
        for batch in iterate_batches(backbone, source_at(request.dataset.root), listed, extraction):
            if batch.images:
                yield batch
            n_done += len(batch.images) + len(batch.skipped)
            context.progress(n_done, len(listed), NAME.unit)
            context.check()
