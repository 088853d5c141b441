"""One analysis: its tables, its latents' images, its SAE, and images through model and SAE."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from hsae.api.arrays.encoding import latents_of
from hsae.api.arrays.images import ImageLike, image_activations, pixels_of
from hsae.api.frames import frame
from hsae.api.service.arguments import changed_latents, latent_numbers
from hsae.api.service.names import name_table
from hsae.api.service.reading import StoredReader, losses_noted
from hsae.api.service.stored.interventions import StoredInterventions
from hsae.api.shown.cards import latent_cards
from hsae.api.shown.edited import Edited, edited_of
from hsae.api.shown.explanation import Explanation, explained
from hsae.api.shown.gallery import Gallery
from hsae.backbones.backbone import Backbone
from hsae.catalog import transaction
from hsae.catalog.findings.trainings.curves import CURVE_COLUMNS, curve_of
from hsae.catalog.queries.analyses import extraction_of, find_analysis
from hsae.interventions.config import EditKind, Place
from hsae.pipeline.connections import Connections
from hsae.pipeline.execution.device import pick_device
from hsae.pipeline.kinds.extract import ExtractRequest
from hsae.pipeline.stages.interventions.single_images import ImageEditor, open_image_editor
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.split_config import IN_SAMPLE
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

if TYPE_CHECKING:
    import pandas as pd


class Analysis(StoredInterventions):
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
            What a notebook shows as a grid; `.save("dogs.png")` writes it.

        Raises:
            UserError: there is no such latent, or the analysis has no relevancy maps.
        """
        cards = latent_cards(self.connections, self.about, latent_numbers(latents), n=n, maps=maps, side=side)
        return Gallery(cards, side)

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

    def names(
        self, *, under: str | None = None, concept: str | None = None, limit: int | None = None
    ) -> "pd.DataFrame":
        """What latents are called by text, the greatest cosine first, beside runner-up, label and where both meet.

        Args:
            under: name or wnid of a node; only names that mean a node at or below it.
            concept: a word or phrase, which need not be of the vocabulary: the latents nearest to it come first, with
                their cosine in the column `concept`. Reads the text tower.
            limit: at most so many rows.

        Raises:
            UserError: the analysis has no names (it tells how to make them), the node is unknown, the text tower is not
                here or knows no word of the text, or pandas is missing.
        """
        return name_table(self.connections, self.about, "names", under=under, concept=concept, limit=limit)

    def name_agreement(self) -> "pd.DataFrame":
        """How many names agree with the labels at every height of the tree, beside shuffled words, with p.

        Raises:
            UserError: the analysis has no names (it tells how to make them), or pandas is missing.
        """
        return name_table(self.connections, self.about, "agreement")

    def encode(self, images: Sequence[ImageLike]) -> Float32[np.ndarray, "n_images n_latents"]:
        """The latents of your own images: the same preprocessing, model, layer and tokens as the analysis.

        Args:
            images: paths, Pillow images, or uint8[height, width, 3].

        Returns:
            A row per image; of patch tokens a latent's greatest activation over the image, as it is scored.

        Raises:
            UserError: an image cannot be used, or the model or the weights are not here.
        """
        sae, backbone = self._sae, self._backbone
        extraction = self._extraction.extraction
        batches = image_activations(
            backbone,
            images,
            extraction.tokens,
            batch_size=extraction.batch_size,
            dtype=getattr(torch, extraction.dtype),
            max_pixels=extraction.max_image_pixels,
        )
        return np.concatenate([latents_of(sae, batch[self.layer]).toarray() for batch in batches])

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
        pixels = torch.cat(pixels_of(self._editor.backbone, images, self._extraction.extraction.max_image_pixels))
        moved = self._editor.edit(pixels, changes, kind=kind, place=tokens)
        return edited_of(self._editor, moved, changes)

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
