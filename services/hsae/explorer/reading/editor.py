"""Edits latents of an uploaded image: the backbone, the SAE and the probe of one analysis, loaded once and kept."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from sqlalchemy.orm import Session

from hsae.explorer.reading.encoder import Encoder, ModelAbsentError
from hsae.interventions.config import EditKind
from hsae.settings import Settings
from hsae.store.objects import ObjectStore


class Readable(Protocol):
    """The catalog and the store."""

    @property
    def store(self) -> ObjectStore:
        """The object store."""

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction for reading."""

    def check(self) -> None:
        """Raise if the reader must stop."""


@dataclass(frozen=True, slots=True)
class EditedImage:
    """An uploaded image whose latents were edited.

    Attributes:
        rows: the nodes by how far their probability moves (`moved_nodes`).
        activations: by edited latent its activation, unedited.
        picture: a small picture of the image.
        accuracy: share of the unedited scored images whose class the probe names.
        chance: the same of always naming one class.
    """

    rows: list[dict[str, Any]]
    activations: dict[int, float]
    picture: str
    accuracy: float
    chance: float


class Editor:
    """Edits one image at a time; keeps what the last analysis needs."""

    def __init__(self, settings: Settings, readable: Readable, encoder: Encoder) -> None:
        self._settings, self._readable, self._encoder = settings, readable, encoder
        self._lock = Lock()
        self._kept: tuple[int, Any] | None = None

    def edit(self, content: bytes, analysis: int, latents: Mapping[int, float], kind: EditKind) -> EditedImage:
        """Edit latents of an image file.

        Args:
            content: the file.
            analysis: number of the analysis.
            latents: as `ImageEditor.edit` takes them.
            kind: how they change.

        Raises:
            UnreadableImageError: it is no image, damaged or too large.
            ModelAbsentError: the backbone's files are missing here.
            ServiceError: there is too little memory.
            UserError: a latent is of another SAE, or the last layer's activations are not stored.
        """
        from hsae.pipeline.stages.interventions.single_images import moved_nodes  # as torch: it takes seconds

        with self._encoder.uploaded(content) as (decoded, picture), self._lock:
            editor = self._editor(analysis)
            moved = editor.edit(editor.backbone.pixel_values([decoded]), latents, kind=kind)
            rows = moved_nodes(editor, moved, 0)
            activations = dict(zip(latents, moved.activations[0].tolist(), strict=True))
        return EditedImage(rows, activations, picture, editor.readout.accuracy, editor.readout.chance)

    def _editor(self, analysis: int) -> Any:
        import torch  # only who edits needs it, and it takes seconds

        from hsae.pipeline.stages.interventions.single_images import (  # as torch
            BackboneAbsentError,
            open_image_editor,
        )

        if self._kept is None or self._kept[0] != analysis:
            self._kept = None  # two at a time may not fit
            try:
                loaded = open_image_editor(self._readable, analysis, torch.device("cpu"), self._settings.model_cache)
            except BackboneAbsentError as error:
                raise ModelAbsentError(str(error)) from error
            self._kept = analysis, loaded
        return self._kept[1]
