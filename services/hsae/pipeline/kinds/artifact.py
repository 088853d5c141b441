"""The result of a stage: the artifact's key, and its objects that rows of the catalog name."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import Base, Job
from hsae.split_config import SplitConfig

_Row = TypeVar("_Row", bound=Base)


def artifact_key(kind: str, version: int, content: dict[str, Any]) -> str:
    """The sha256 over everything that determines an artifact's content, and nothing else.

    The place of a model or data set, and other requests made at the same time, are not part of it, so two requests that
    need the same artifact share it.

    Args:
        kind: kind of artifact, such as `sae`.
        version: raised whenever the same request would give other bytes than before.
        content: what determines the artifact, as plain JSON values.
    """
    canonical = json.dumps(
        {"kind": kind, "format": version, **content}, sort_keys=True, separators=(",", ":"), allow_nan=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def split_content(split: SplitConfig | None) -> dict[str, Any]:
    """The split as a part of an artifact's content; nothing without one, so that keys of in-sample artifacts stay."""
    return {} if split is None else {"split": split.model_dump(mode="json")}


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object of the store that a row of the catalog names.

    Attributes:
        key: the object's key.
        sha256: its checksum.
        what: what it is a part of, for people.
        job_id: the job that made it; None for a data set's.
        is_checkpoint: only a job that has not ended needs it.
        is_abandoned: only another attempt at a job that failed or was cancelled would need it.
    """

    key: str
    sha256: str
    what: str
    job_id: int | None = None
    is_checkpoint: bool = False
    is_abandoned: bool = False


def titled_rows(session: Session, table: type[_Row], key: str | None) -> Iterator[tuple[_Row, str]]:
    """The rows of a table of artifacts, of one key or all, each with the title of the job that made it."""
    columns: Any = table  # every such table has id, key and job_id
    rows = select(table, Job.title).join(Job, Job.id == columns.job_id)
    if key is not None:
        rows = rows.where(columns.key == key)
    return ((row, title) for row, title in session.execute(rows.order_by(columns.id)))
