"""Edits latents of an uploaded image: the backbone, the SAE and the probe of one analysis, loaded once and kept."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.orm import Session

from hsae.catalog.queries.analyses import extraction_of
from hsae.explorer.reading.encoder import Encoder
from hsae.interventions.config import EditKind
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

if TYPE_CHECKING:
    from hsae.pipeline.stages.interventions.single_images import ImageEditor


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
        self._kept: tuple[int, ImageEditor] | None = None

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
        from hsae.explorer.reading.models import edited

        with self._readable.reading() as session:
            request, _ = extraction_of(session, analysis)
        is_scaled = request["extraction"].get("decode", "exact") == "scaled"
        enough = partial(self._enough, analysis) if is_scaled else None
        with self._encoder.uploaded(content, enough) as (decoded, picture), self._lock:
            editor = self._opened(analysis)
            rows, activations = edited(editor, decoded, latents, kind)
        return EditedImage(rows, activations, picture, editor.readout.accuracy, editor.readout.chance)

    def _enough(self, analysis: int, size: tuple[int, int]) -> tuple[int, int]:
        with self._lock:
            return self._opened(analysis).backbone.preprocessing.enough(size)

    def _opened(self, analysis: int) -> "ImageEditor":
        """Whoever calls it holds the lock."""
        # As in `edit`.
        from hsae.explorer.reading.models import open_editor

        if self._kept is None or self._kept[0] != analysis:
            self._kept = None  # two at a time may not fit
            self._kept = analysis, open_editor(self._settings, self._readable, analysis)
        return self._kept[1]
