"""Activation sets whose shards were deleted because their studies asked for that; rows and manifest stay."""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, Job
from hsae.pipeline.kinds.activation_sets.readers import reads
from hsae.pipeline.kinds.stage import StageRequest
from hsae.store.faults import ActivationsDroppedError
from hsae.store.keys import ACTIVATIONS, artifact_of, manifest_key

UNPUBLISHED = {"manifest_sha256": None, "dropped_at": None, "freed_at": None}
"""Columns of a set that its extraction is to make."""


class OpenedSet(NamedTuple):
    """A dropped set that is to be made again, and the job that made it."""

    key: str
    layer: int
    job_id: int


def dropped_error(row: ActivationSet, bucket: str) -> ActivationsDroppedError:
    """The error of whoever wants to read a dropped set."""
    when = "" if row.dropped_at is None else f" on {row.dropped_at:%Y-%m-%d}"
    what = f"the activations of layer {row.layer} (set {row.id}) were dropped{when}"
    return ActivationsDroppedError(manifest_key(row.key, "*"), bucket, what)


def dropped_set(session: Session, object_key: str) -> ActivationSet | None:
    """The set that an object was a part of, if it was dropped."""
    folder, key = artifact_of(object_key)
    if folder != ACTIVATIONS:
        return None
    dropped = select(ActivationSet).where(ActivationSet.key == key, ActivationSet.dropped_at.is_not(None))
    return session.scalars(dropped).one_or_none()


def open_again(session: Session, requests: Iterable[StageRequest], *, keeps: bool) -> tuple[OpenedSet, ...]:
    """Let an extraction make dropped sets again; returns them. Needs the lock of submits.

    Args:
        session: a transaction, in which the extraction is entered, too.
        requests: of the jobs of a study.
        keeps: whether the study keeps its activations: then all that its jobs read, else what jobs are going to read
            that have not succeeded yet.
    """
    read_by = {request.key: reads(request) for request in requests}
    wanted = {key for keys in read_by.values() for key in keys}
    columns = (ActivationSet.key, ActivationSet.layer, ActivationSet.job_id)
    dropped = select(*columns).where(ActivationSet.key.in_(wanted), ActivationSet.dropped_at.is_not(None))
    found = [OpenedSet(*row) for row in session.execute(dropped.order_by(ActivationSet.id))]
    if found and not keeps:
        done = set(session.scalars(select(Job.key).where(Job.key.in_(read_by), Job.state == "succeeded")))
        needed = {key for job, keys in read_by.items() if job not in done for key in keys}
        found = [gone for gone in found if gone.key in needed]
    if found:
        opened = ActivationSet.key.in_([gone.key for gone in found])
        session.execute(update(ActivationSet).where(opened).values(**UNPUBLISHED))
    return tuple(found)
