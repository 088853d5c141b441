"""One analysis: its tables, its latents' images, its SAE, and images through model and SAE."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from hsae.api.arrays.encoding import latents_of, mean_rows
from hsae.api.arrays.images import ImageLike, image_activations, pixels_of
from hsae.api.arrays.latents import changed_latents, latent_numbers
from hsae.api.arrays.steering import steer
from hsae.api.frames import frame, html_table, what_was_asked
from hsae.api.service.arguments import number_at_least_0
from hsae.api.service.names import NamedLatents
from hsae.api.service.reading import StoredReader, losses_noted
from hsae.api.service.stored.interventions import StoredInterventions
from hsae.api.shown.cards import latent_cards
from hsae.api.shown.edited import Edited, edited_of
from hsae.api.shown.explanation import Explanation, explained
from hsae.api.shown.gallery import Gallery
from hsae.api.shown.similar import SimilarImages, similar_images
from hsae.backbones.backbone import Backbone
from hsae.backbones.hooks.vision_tower import vision_tower
from hsae.catalog import transaction
from hsae.catalog.findings.trainings.curves import CURVE_COLUMNS, curve_of
from hsae.catalog.queries.analyses import extraction_of, find_analysis
from hsae.interventions.config import EditKind, Place
from hsae.interventions.steering.hooked import Steering, check_same_tower
from hsae.pipeline.connections import Connections
from hsae.pipeline.execution.device import pick_device
from hsae.pipeline.exports.neighbours.similar_images import OwnImage, find_similar
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.stages.interventions.single_images import ImageEditor, edited_tokens, open_image_editor
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import IN_SAMPLE
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = {
    "layer": "layer", "sae_kind": "SAE", "expansion": "expansion", "n_latents": "latents", "fvu": "FVU, held out",
    "l0": "L0, held out", "tokens": "tokens", "model": "model", "dataset": "data set", "n_images": "images",
    "scored": "scores",
}  # fmt: skip


class Analysis(NamedLatents, StoredInterventions):
    """One SAE on one layer, scored against a data set's taxonomy: tables, images, and the SAE itself."""

    def show(
        self, latents: "int | Iterable[int] | pd.DataFrame", *, n: int = 8, maps: bool = False, side: int = 128
    ) -> Gallery:
        """The strongest images of latents, a row for each latent with its label and scores.

        Args:
            latents: their numbers, such as `an.latents(under="dog.n.01").latent[:8]`, or a table with them.
            n: images of each, 16 at most.
            maps: also the relevancy maps, beside the images; an image without one says why.
            side: the longest side of an image in pixels.

        Returns:
            What a notebook shows as a grid; `.save("dogs.png")` writes it. Of no latent it says what was asked.

        Raises:
            UserError: there is no such latent, or the analysis has no relevancy maps.
        """
        cards = latent_cards(self.connections, self.about, latent_numbers(latents), n=n, maps=maps, side=side)
        return Gallery(
            cards, side, asked=f"{repr(self)[1:-1]}: {what_was_asked(latents) or 'an empty list of latents'}"
        )

    def sae(self) -> SparseAutoencoder:
        """The SAE as a torch module in eval mode on the CPU, with `encode`, `decode` and `forward`.

        Raises:
            UserError: its weights are lost, or are not those that the catalog names.
        """
        key, sha256 = self.about["sae_key"], self.about["weights_sha256"]
        with losses_noted(self.connections):
            tensors, _ = get_tensors(self.connections.store, weights_key(key, sha256), sha256=sha256)
        return (
            SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(self.about["sae_config"]))
            .eval()
            .requires_grad_(False)
        )

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured of the SAE, held-out beside training rows: `metrics` of its row of the catalog."""
        return dict(self.about["sae_metrics"])

    def curve(self) -> "pd.DataFrame":
        """The points of the SAE's training by step: losses, FVU and L0 of held-out and training rows, dead share.

        Raises:
            UserError: pandas is missing.
        """
        with transaction(self.connections.sessions) as session:
            return frame(curve_of(session, self.about["sae_key"]), CURVE_COLUMNS)

    def encode(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n_images n_latents"]:
        """The latents of your own images: the same preprocessing, model, layer and tokens as the analysis.

        Args:
            images: paths, Pillow images, or uint8[height, width, 3].

        Returns:
            A row per image; of patch tokens a latent's greatest activation over the image, as it is scored.

        Raises:
            UserError: an image cannot be used, or the model or the weights are not here.
        """
        return np.concatenate([latents_of(self._sae, batch).toarray() for batch in self._batches(images)])

    def similar(self, image: "int | ImageLike", *, k: int = 5, n_latents: int = 3) -> SimilarImages:
        """The images of the data set most similar to one by the cosine of their latents, and the latents that carry it.

        The cosine is a sum over the latents that fire on both, so that each has a share of it. Beside it stand the same
        search on the activations, and what random images of the data set have in common with it. Images that share no
        latent with it are left out.

        Args:
            image: its number in the data set's listing, or an image of yours: a path, a Pillow image, or
                uint8[height, width, 3]. Of yours no class is known, so that nothing is said of classes.
            k: how many images.
            n_latents: of how many latents the share is told, the greatest first.

        Raises:
            UserError: there is no such image, it cannot be used, no latent fires on it, or activations are lost.
        """
        query = number_at_least_0("image", image) if isinstance(image, int | np.integer) else self._own_image(image)
        counts = {"k": number_at_least_0("k", k), "n_latents": number_at_least_0("n_latents", n_latents)}
        with losses_noted(self.connections):
            found = find_similar(StoredReader(self.connections), self.about, self._stored_latents, query, **counts)
        return similar_images(self.connections, self.about, found)

    def edit(
        self,
        images: Sequence[ImageLike],
        latents: "Mapping[int, float] | Iterable[int] | pd.DataFrame",
        *,
        kind: EditKind = "scale",
        value: float = 0.0,
        tokens: "Place | Sequence[int]" = "own",
    ) -> Edited:
        """Edit latents of your own images in the SAE's layer, and see how a probe of the last layer moves.

        The probe is the readout of `submit --intervene`: trained on unedited activations of the data set's images that
        train, which the study must have stored for the last layer. What the SAE does not reconstruct stays.

        Args:
            images: paths, Pillow images, or uint8[height, width, 3].
            latents: their numbers, or a number for each: `{17: 0.0, 203: 2.0}`.
            kind: "scale" (by a factor; 0 takes the latent away, 1 changes nothing), "clamp" (to a value) or "add".
            value: of latents without a number of their own.
            tokens: "own" (what the SAE was trained on), "cls", "patches", "all", or numbers of tokens.

        Returns:
            What a notebook shows as a table of the nodes that move most; `.to_pandas()`, `.before` and `.after` give
            the probability of every node.

        Raises:
            UserError: an image cannot be used, a latent is of another SAE, a number is not finite, or the last layer's
                activations, the model or the weights are not here.
        """
        changes = changed_latents(latents, value)
        extraction = self._extraction.extraction
        found = pixels_of(self._editor.backbone, images, extraction.max_image_pixels, extraction.decode)
        moved = self._editor.edit(torch.cat(found), changes, kind=kind, place=tokens)
        return edited_of(self._editor, moved, changes)

    def steer(
        self,
        model: Any,
        latents: "Mapping[int, float] | Iterable[int] | pd.DataFrame",
        *,
        kind: EditKind = "scale",
        value: float = 0.0,
        tokens: "Place | Sequence[int]" = "own",
    ) -> AbstractContextManager[Steering]:
        """Edit latents in the vision tower of a model while it answers: `hsae.steer` with the SAE and its layer.

        Args:
            model: a model of transformers whose vision tower is the backbone of this analysis.
            latents: their numbers, or a number for each: `{17: 0.0, 203: 2.0}`.
            kind: "scale" (by a factor; 0 takes the latent away, 1 changes nothing), "clamp" (to a value) or "add".
            value: of latents without a number of their own.
            tokens: "own" (what the SAE was trained on), "cls", "patches", "all", or numbers of tokens.

        Returns:
            A context, for `model.generate(...)` inside.

        Raises:
            UserError: as `hsae.steer`; or the tower is another one, or the analysis is of no tokens of the residual
                stream that can be edited.
        """
        own = edited_tokens(self._extraction, self.id)
        check_same_tower(self._extraction.model, vision_tower(model))
        wanted = own if isinstance(tokens, str) and tokens == "own" else tokens
        return steer(model, self._sae, latents, layer=self.layer, kind=kind, value=value, tokens=wanted)

    def explain(self, z: Any, *, k: int = 5, n: int = 4) -> Explanation:
        """What fires on an image: the strongest latents with their labels, scores and strongest images.

        Args:
            z: one row of `encode`, float[n_latents].
            k: how many latents, strongest first; those that are 0 are left out.
            n: images of each, 16 at most.

        Returns:
            What a notebook shows as a table; `.to_pandas()` gives it without images.

        Raises:
            UserError: it is no row of this SAE's latents.
        """
        return explained(self.connections, self.about, z, k=k, n=n)

    def _batches(self, images: Sequence[ImageLike]) -> Iterator[Tensor]:
        """The activations of images, float32[batch, n_tokens, d_model], as the pipeline computes them."""
        extraction = self._extraction.extraction
        batches = image_activations(
            self._backbone,
            images,
            extraction.tokens,
            batch_size=extraction.batch_size,
            dtype=getattr(torch, extraction.dtype),
            max_pixels=extraction.max_image_pixels,
            decode=extraction.decode,
        )
        return (batch[self.layer] for batch in batches)

    def _own_image(self, image: Any) -> OwnImage:
        (x,) = self._batches([image])
        return OwnImage(latents_of(self._sae, x).toarray()[0], mean_rows(x)[0])

    @cached_property
    def _extraction(self) -> ExtractRequest:
        with transaction(self.connections.sessions) as session:
            request, _ = extraction_of(session, self.id)
        return ExtractRequest.model_validate(request)

    @cached_property
    def _backbone(self) -> Backbone:
        settings = self.connections.settings
        return Backbone.load(
            self._extraction.model,
            layers=(self.layer,),
            device=pick_device(settings),
            cache_dir=settings.model_cache,
            hook=self._extraction.extraction.hook,
        )

    @cached_property
    def _editor(self) -> ImageEditor:
        settings = self.connections.settings
        with losses_noted(self.connections):
            return open_image_editor(
                StoredReader(self.connections), self.id, pick_device(settings), settings.model_cache
            )

    @cached_property
    def _sae(self) -> SparseAutoencoder:
        return self.sae().to(pick_device(self.connections.settings))

    def _repr_html_(self) -> str:
        row = {**self.about, **self.metrics, "scored": "held out" if self.about["split"] else IN_SAMPLE}
        return html_table(f"Analysis {self.id}", [row], _SHOWN)

    def __repr__(self) -> str:
        about = self.about
        return (
            f"<Analysis {self.id}: {about['sae_kind']} SAE x{about['expansion']}, layer {self.layer},"
            f" {about['tokens']} of {about['model']}, {about['dataset']}{'' if about['split'] else f', {IN_SAMPLE}'}>"
        )


def open_analysis(connections: Connections, number: int) -> Analysis:
    """The analysis of a number.

    Raises:
        UserError: there is none.
    """
    with transaction(connections.sessions) as session:
        return Analysis(connections, find_analysis(session, number))
