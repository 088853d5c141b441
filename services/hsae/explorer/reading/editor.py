"""Edits latents of an uploaded image: the backbone, the SAE and the probe of one analysis, loaded once and kept."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol

from sqlalchemy.orm import Session

from hsae.explorer.reading.encoder import Encoder
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
        # torch comes with it, which takes seconds: only who edits needs it.
        from hsae.explorer.reading.models import edited, open_editor

        with self._encoder.uploaded(content) as (decoded, picture), self._lock:
            if self._kept is None or self._kept[0] != analysis:
                self._kept = None  # two at a time may not fit
                self._kept = analysis, open_editor(self._settings, self._readable, analysis)
            editor = self._kept[1]
            rows, activations = edited(editor, decoded, latents, kind)
        return EditedImage(rows, activations, picture, editor.readout.accuracy, editor.readout.chance)
