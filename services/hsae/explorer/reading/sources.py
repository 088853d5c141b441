"""What pages read: the catalog, the object store, small pictures, and models for uploads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionError
from sqlalchemy.orm import Session

from hsae.catalog import Dataset, clear_errors, session_factory
from hsae.catalog.server.reading import connect_reading
from hsae.catalog.server.schema_version import require_current_schema
from hsae.errors import ServiceError, UserError
from hsae.explorer.reading.editor import Editor
from hsae.explorer.reading.encoder import Encoder
from hsae.explorer.reading.listings import Listed, Listings
from hsae.explorer.reading.local_copies import LocalCopies
from hsae.explorer.reading.stored_latents import StoredLatents
from hsae.explorer.reading.taxonomies import Taxonomies
from hsae.pipeline.gallery.thumbnails import Thumbnails
from hsae.pipeline.inputs.dataset_ref import DatasetRef, dataset_ref
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

_STATEMENT_SECONDS = 20
_STOPPED = "57014"  # by statement_timeout


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder for small pictures and copies of objects, made at need, and the most that it holds."""

    folder: Path
    max_bytes: int = 2_500_000_000


class Sources:
    """The service as the pages see it; threads share it."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        """Connect.

        Args:
            settings: of the service.
            cache: where what takes time to get is kept.

        Raises:
            UserError: the database cannot be used, or is of another version; or no store is configured.
        """
        self.settings = settings
        self._engine = connect_reading(settings, statement_seconds=_STATEMENT_SECONDS)
        require_current_schema(self._engine)
        self._sessions = session_factory(self._engine)
        self.store = ObjectStore.from_settings(settings)
        self.listings = Listings(self.store)
        self.taxonomies = Taxonomies()
        pictures = cache.max_bytes // 5
        self.copies = LocalCopies(self.store, cache.folder / "latents", max_bytes=cache.max_bytes - pictures)
        self.latents = StoredLatents(self.copies)
        self.thumbnails = Thumbnails(
            cache.folder / "thumbnails", max_bytes=pictures, max_pixels=settings.max_image_pixels
        )
        self.encoder = Encoder(settings, self.store)
        self.editor = Editor(settings, self, self.encoder)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def check(self) -> None:
        """Nobody takes a page's work away from it."""

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session in one read-only transaction; errors become clear lines.

        A page leaves it before it reads the object store: a copy may take minutes, and there are few connections.
        """
        try:
            with clear_errors(), self._sessions.begin() as session:
                yield session
        except NoConnectionError as error:
            raise ServiceError("All connections to the database are in use: try again in a moment.") from error
        except ServiceError as error:
            cause = error.__cause__
            if isinstance(cause, DBAPIError) and getattr(cause.orig, "sqlstate", None) == _STOPPED:
                raise ServiceError(
                    f"The database stopped this query after {_STATEMENT_SECONDS} s: choose fewer layers, or try again."
                ) from error
            raise

    def dataset(self, session: Session, dataset: int) -> DatasetRef | None:
        """A registered data set; None if there is none of that number."""
        found = session.get(Dataset, dataset)
        return None if found is None else dataset_ref(found)

    def top_images(
        self, dataset: DatasetRef | None, top_images: Sequence[Mapping[str, Any]]
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A latent's strongest images with the labels of their classes; and why these are missing, if they are.

        The page stays of use without the store. It holds no connection while the store answers.
        """
        rows = [{"image": top["image"], "activation": top["activation"], "labels": []} for top in top_images]
        if dataset is None or not rows:
            return rows, None
        try:
            listed = self.listings.images(dataset, [row["image"] for row in rows])
        except UserError as error:
            return rows, str(error)
        with self.reading() as session:
            names = class_labels(session, dataset.id, listed.values())
        for row in rows:
            if row["image"] in listed:
                row["labels"] = [names[wnid] for wnid in listed[row["image"]].classes if wnid in names]
        return rows, None


def class_labels(session: Session, dataset: int, listed: Iterator[Listed] | Any) -> dict[str, dict[str, Any]]:
    """The classes of some images by wnid: label, synset and synset_id."""
    wanted = sorted({wnid for image in listed for wnid in image.classes})
    query = """
        SELECT y.wnid, k.label, y.name AS synset, k.synset_id
        FROM dataset_class k JOIN synset y ON y.id = k.synset_id
        WHERE k.dataset_id = :dataset AND y.wnid = ANY(:wanted)
    """
    rows = session.execute(text(query), {"dataset": dataset, "wanted": wanted}).mappings()
    return {row["wnid"]: dict(row) for row in rows}
