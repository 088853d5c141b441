"""The models that uploaded images go through. torch comes with this module, so it is imported at the first upload."""

from collections.abc import Mapping
from typing import Any

import torch

from hsae.backbones.backbone import Backbone
from hsae.datasets import DecodedImage
from hsae.errors import UserError
from hsae.explorer.reading.wanted import ModelAbsentError, Wanted
from hsae.interventions.config import EditKind
from hsae.pipeline.stages.activation_reader import Reading
from hsae.pipeline.stages.interventions.single_images import (
    BackboneAbsentError,
    ImageEditor,
    moved_nodes,
    open_image_editor,
)
from hsae.sae.config import SaeConfig
from hsae.sae.model import SparseAutoencoder
from hsae.settings import Settings
from hsae.store.keys import weights_key
from hsae.store.objects import ObjectStore
from hsae.store.tensors import get_tensors

_CPU = torch.device("cpu")


class KeptModels:
    """The last backbone and the last SAE."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings, self._store = settings, store
        self._backbone: tuple[tuple[str, int, str], Backbone] | None = None
        self._sae: tuple[str, SparseAutoencoder] | None = None

    def latents(self, decoded: DecodedImage, wanted: Wanted) -> list[tuple[int, float]]:
        """The numbers of an image's latents with their activations, the strongest first.

        Raises:
            ModelAbsentError: the backbone's files are missing here.
            UserError: the SAE cannot be loaded.
        """
        with torch.inference_mode():
            backbone, sae = self._load_backbone(wanted), self._load_sae(wanted)
            stream = backbone.activations(backbone.pixel_values([decoded]), wanted.tokens)[wanted.layer]
            # Rounded like those that the SAE was trained and scored on.
            kept = stream.flatten(0, 1).to("cpu", getattr(torch, wanted.dtype)).float()
            z = sae.encode(kept).amax(0)
            fires = torch.nonzero(z > wanted.threshold).flatten()
            order = torch.argsort(z[fires], descending=True, stable=True)
            chosen = fires[order]
            return list(zip(chosen.tolist(), z[chosen].tolist(), strict=True))

    def enough(self, size: tuple[int, int], wanted: Wanted) -> tuple[int, int]:
        """The least (width, height) that is enough of an image of a size (`Preprocessing.enough`).

        Raises:
            ModelAbsentError: the backbone's files are missing here.
        """
        return self._load_backbone(wanted).preprocessing.enough(size)

    def _load_backbone(self, wanted: Wanted) -> Backbone:
        key = (wanted.spec.revision, wanted.layer, wanted.hook)
        if self._backbone is None or self._backbone[0] != key:
            self._backbone = None  # two at a time may not fit
            try:
                loaded = Backbone.load(
                    wanted.spec,
                    layers=(wanted.layer,),
                    device=_CPU,
                    cache_dir=self._settings.model_cache,
                    hook=wanted.hook,
                )
            except UserError as error:
                raise ModelAbsentError(str(error)) from error
            self._backbone = key, loaded
        return self._backbone[1]

    def _load_sae(self, wanted: Wanted) -> SparseAutoencoder:
        if self._sae is None or self._sae[0] != wanted.weights_sha256:
            key = weights_key(wanted.sae_key, wanted.weights_sha256)
            tensors, _ = get_tensors(self._store, key, sha256=wanted.weights_sha256)
            sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(wanted.sae_config))
            self._sae = wanted.weights_sha256, sae
        return self._sae[1]


def open_editor(settings: Settings, reading: Reading, analysis: int) -> ImageEditor:
    """What edits single images like those of an analysis.

    Raises:
        ModelAbsentError: the backbone's files are missing here.
        UserError: the last layer's activations are not stored.
    """
    try:
        return open_image_editor(reading, analysis, _CPU, settings.model_cache)
    except BackboneAbsentError as error:
        raise ModelAbsentError(str(error)) from error


def edited(
    editor: ImageEditor, decoded: DecodedImage, latents: Mapping[int, float], kind: EditKind
) -> tuple[list[dict[str, Any]], dict[int, float]]:
    """The nodes of an edited image by how far they move, and by edited latent its activation, unedited.

    Raises:
        UserError: a latent is of another SAE.
    """
    moved = editor.edit(editor.backbone.pixel_values([decoded]), latents, kind=kind)
    return moved_nodes(editor, moved, 0), dict(zip(latents, moved.activations[0].tolist(), strict=True))
