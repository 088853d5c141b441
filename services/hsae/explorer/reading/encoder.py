"""Encodes an uploaded image: the backbone and the SAE of one analysis, loaded when first needed and kept."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from PIL import Image
from pydantic import ValidationError
from sqlalchemy import text
from sqlalchemy.orm import Session

from hsae.backbones.hooks.names import RESIDUAL
from hsae.backbones.spec import BackboneSpec
from hsae.datasets import DecodedImage, ImageFile, MemoryBudget, UnreadableImageError
from hsae.errors import ServiceError, UserError
from hsae.pipeline.gallery.thumbnails import data_uri
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

MAX_UPLOAD_BYTES = 32 << 20
MAX_UPLOAD_PIXELS = 50_000_000
_SHOWN_SIDE = 320
_BYTES_IN_FLIGHT = 512 << 20


class ModelAbsentError(UserError):
    """The backbone's files are not on this machine."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An analysis as an encoder needs it; `dtype` is the one in which its extraction keeps activations.

    `hook` is the hook point whose activations they are.
    """

    spec: BackboneSpec
    layer: int
    tokens: str
    dtype: str
    sae_key: str
    sae_config: dict[str, Any]
    weights_sha256: str
    threshold: float
    hook: str = RESIDUAL


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image: the numbers of its latents with their activations, the strongest first, and a picture."""

    latents: list[tuple[int, float]]
    picture: str


def wanted_of(session: Session, analysis: int) -> Wanted:
    """What encodes images like those of an analysis.

    Raises:
        UserError: the analysis is of a version that did not keep the backbone's description.
    """
    query = """
        SELECT j.request -> 'model' AS spec, i.layer, i.tokens, i.dtype, i.sae_key, i.sae_config,
               e.weights_sha256, i.scoring, s.hook
        FROM analysis_input i
        JOIN sae e ON e.id = i.sae_id
        JOIN activation_set s ON s.id = i.activation_set_id
        JOIN job j ON j.id = s.job_id
        WHERE i.analysis_id = :id
    """
    row = session.execute(text(query), {"id": analysis}).one()
    try:
        spec = BackboneSpec.model_validate(row.spec)
    except ValidationError as error:
        raise UserError("This analysis does not say which backbone it is of: submit it again.") from error
    threshold = float((row.scoring or {}).get("threshold", 0.0))
    return Wanted(
        spec, row.layer, row.tokens, row.dtype, row.sae_key, row.sae_config, row.weights_sha256, threshold,
        row.hook,
    )  # fmt: skip


class Encoder:
    """Encodes one image at a time; keeps the last backbone and the last SAE."""

    def __init__(self, settings: Settings, store: ObjectStore) -> None:
        self._settings, self._store = settings, store
        self._budget = MemoryBudget(_BYTES_IN_FLIGHT)
        self._lock = Lock()
        self._backbone: tuple[tuple[str, int, str], Any] | None = None
        self._sae: tuple[str, Any] | None = None

    def encode(self, content: bytes, wanted: Wanted) -> EncodedImage:
        """The latents of an image file.

        Raises:
            UnreadableImageError: it is no image, damaged or too large.
            ModelAbsentError: the backbone's files are missing here.
            ServiceError: there is too little memory.
            UserError: the backbone or the SAE cannot be loaded.
        """
        with self.uploaded(content) as (decoded, picture):
            return EncodedImage(self._latents(decoded, wanted), picture)

    @contextmanager
    def uploaded(self, content: bytes) -> Iterator[tuple[DecodedImage, str]]:
        """An image file, decoded within the memory that uploads may take, and a small picture of it.

        Raises:
            UnreadableImageError: it is no image, damaged or too large, or what the block does cannot use it.
            ServiceError: there is too little memory, also for what the block does.
        """
        max_pixels = min(MAX_UPLOAD_PIXELS, self._settings.max_image_pixels)
        with (
            ImageFile(io.BytesIO(content), "upload", max_pixels=max_pixels) as file,
            self._budget.lent(file.decoding_bytes),
        ):
            decoded = file.decode()
            with _clear_errors():
                yield decoded, _picture(decoded)

    def _latents(self, decoded: DecodedImage, wanted: Wanted) -> list[tuple[int, float]]:
        import torch  # only who encodes needs it, and it takes seconds

        with self._lock, torch.inference_mode():
            backbone, sae = self._load_backbone(wanted), self._load_sae(wanted)
            stream = backbone.activations(backbone.pixel_values([decoded]), wanted.tokens)[wanted.layer]
            # Rounded like those that the SAE was trained and scored on.
            kept = stream.flatten(0, 1).to("cpu", getattr(torch, wanted.dtype)).float()
            z = sae.encode(kept).amax(0)
            fires = torch.nonzero(z > wanted.threshold).flatten()
            order = torch.argsort(z[fires], descending=True, stable=True)
            chosen = fires[order]
            return list(zip(chosen.tolist(), z[chosen].tolist(), strict=True))

    def _load_backbone(self, wanted: Wanted) -> Any:
        from hsae.backbones.backbone import Backbone  # as torch

        key = (wanted.spec.revision, wanted.layer, wanted.hook)
        if self._backbone is None or self._backbone[0] != key:
            import torch  # as above

            self._backbone = None  # two at a time may not fit
            try:
                loaded = Backbone.load(
                    wanted.spec,
                    layers=(wanted.layer,),
                    device=torch.device("cpu"),
                    cache_dir=self._settings.model_cache,
                    hook=wanted.hook,
                )
            except UserError as error:
                raise ModelAbsentError(str(error)) from error
            self._backbone = key, loaded
        return self._backbone[1]

    def _load_sae(self, wanted: Wanted) -> Any:
        # As torch, which comes with them.
        from hsae.sae.config import SaeConfig
        from hsae.sae.model import SparseAutoencoder
        from hsae.store.keys import weights_key
        from hsae.store.tensors import get_tensors

        if self._sae is None or self._sae[0] != wanted.weights_sha256:
            key = weights_key(wanted.sae_key, wanted.weights_sha256)
            tensors, _ = get_tensors(self._store, key, sha256=wanted.weights_sha256)
            sae = SparseAutoencoder.from_tensors(tensors, SaeConfig.parse(wanted.sae_config))
            self._sae = wanted.weights_sha256, sae
        return self._sae[1]


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what an image may cause in the preprocessing, and a lack of memory, into one line."""
    from hsae.backbones.preprocessing import PreprocessingError  # as torch

    try:
        yield
    except PreprocessingError as error:
        raise UnreadableImageError(str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # torch has no class of its own
            raise
        raise ServiceError(
            "There is too little memory to encode this image: try again later, or a smaller image."
        ) from error


def _picture(decoded: DecodedImage) -> str:
    """A small picture of it as a data: address, drawn from the pixels, so that nothing else of the file is shown."""
    width, height = decoded.size
    scale = min(1.0, _SHOWN_SIDE / max(width, height))
    small = decoded.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, "WEBP", quality=80)
    return data_uri(stream.getvalue())


__all__ = [
    "MAX_UPLOAD_BYTES",
    "EncodedImage",
    "Encoder",
    "ModelAbsentError",
    "UnreadableImageError",
    "Wanted",
    "wanted_of",
]
