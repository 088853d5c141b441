"""Garbage collection: deletes the objects of the bucket that no row of the catalog refers to.

What counts as referenced: an artifact's objects where its stage's `named_objects` lists them, listings and taxonomies
by `dataset` and by the requests of jobs, logs by their job. Anything outside hsae's own folders, or in them under a
name that hsae does not give, is somebody else's and never touched.

Safe beside a running service:

- The objects of an artifact whose job waits, is queued or runs are left alone: they are work in progress.
- Before anything of an artifact is deleted, its folder is looked at again in a transaction that holds the lock which
  submits take turns by and its job's row. Until that transaction ends no submit can enter a job for the artifact, no
  `jobs retry` can queue it and no worker can claim it, so that nobody stores what is being deleted. A row that somebody
  else holds is at work: its artifact is left for the next time.
- Listings, taxonomies and imported SAEs are deleted under the lock under which they are stored and entered.
- What no row knows at all is deleted only once it is `min_age` old, so that objects stored before the rows that will
  name them are safe also from a clean-up by an older or a mistaken catalog.

A worker that lost its lease may still store an object after the clean-up; no row names it and the next one finds it.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, exists, or_, select, union_all
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import LIVE_STATES, UNSUCCESSFUL_STATES, Dataset, ImportedSae, Job, transaction
from hsae.catalog.server.locks import DATASET_LOCK, SUBMIT_LOCK, take_lock
from hsae.pipeline.kinds.registry import stage_of, stage_of_folder, stages
from hsae.pipeline.kinds.spread.filling import filling
from hsae.pipeline.kinds.stage import Stage
from hsae.store.keys import (
    DATASETS,
    DOCTOR,
    IMPORTS,
    LOGS,
    NOT_OF_ARTIFACTS,
    TAXONOMIES,
    artifact_of,
    artifact_prefix,
    imported_key,
    is_of_hsae,
    listing_of,
    taxonomy_of,
)
from hsae.store.objects import ListedObject, ObjectStore

DATASETS_OF_JOBS = (Job.request["dataset"], Job.request["apart"]["train_dataset"])
"""Where requests of jobs name data sets: what is scored (or extracted), and what trains where that is another one."""
_DELETES_PER_TRANSACTION = 500  # submits wait meanwhile


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects of one folder that no row refers to."""

    kind: str
    prefix: str
    objects: tuple[ListedObject, ...]

    @property
    def n_bytes(self) -> int:
        """Total size of the objects."""
        return sum(listed.n_bytes for listed in self.objects)


def find_garbage(
    sessions: sessionmaker[Session], store: ObjectStore, *, min_age: timedelta, partial: bool = False
) -> Iterator[Garbage]:
    """Find garbage; delete nothing. With `partial` also what failed and cancelled jobs keep for a later attempt.

    Raises:
        ServiceError: the database or the object store cannot be reached.
    """
    for kind in (*_artifact_folders(), *NOT_OF_ARTIFACTS):
        folders: dict[str, list[ListedObject]] = {}
        for listed in store.entries(f"{kind}/"):
            prefix = _folder(kind, listed.key)
            if prefix is not None:
                folders.setdefault(prefix, []).append(listed)
        with transaction(sessions) as session:
            for prefix, objects in folders.items():
                found = _unreferenced(session, kind, prefix, objects, min_age, partial=partial)
                if found:
                    yield Garbage(kind, prefix, tuple(found))


def collect(
    sessions: sessionmaker[Session],
    store: ObjectStore,
    garbage: Iterable[Garbage],
    *,
    min_age: timedelta,
    partial: bool = False,
) -> list[Garbage]:
    """Delete what `find_garbage` found, if it still is garbage; returns what was deleted.

    Raises:
        ServiceError: the database or the object store cannot be reached; another call continues.
    """
    deleted = []
    for found in garbage:
        if partial and stage_of_folder(found.kind) is not None:
            # The rows go first, in a transaction of their own: no row may name an object that is deleted.
            with _locked(sessions, found) as session:
                if session is not None:
                    _forget_partial(session, found)
        gone: list[ListedObject] = []
        while True:
            with _locked(sessions, found) as session:
                if session is None:
                    break
                left = _unreferenced(session, found.kind, found.prefix, list(store.entries(found.prefix)), min_age)
                chunk = left[:_DELETES_PER_TRANSACTION]
                for listed in chunk:
                    store.delete(listed.key)
            gone += chunk
            if len(left) == len(chunk):
                break
        deleted.append(Garbage(found.kind, found.prefix, tuple(gone)))
    return deleted


def sweep(session: Session, store: ObjectStore, prefixes: Iterable[str]) -> int:
    """Delete what no row refers to under the folders of artifacts (`saes/<key>/`); returns the number of objects.

    The caller holds in `session` the row of an ended job that made them, so that nobody starts it in the meantime. An
    artifact that another job makes by now, or that another transaction is changing, is left alone.

    Raises:
        ServiceError: the object store cannot be reached.
    """
    session.flush()
    n_deleted = 0
    for prefix in prefixes:
        stage, key = _artifact(prefix)
        if not hold_ended_jobs(session, stage, key):
            continue
        named = _named(session, stage, key)
        for listed in list(store.entries(prefix)):
            if listed.key not in named:
                store.delete(listed.key)
                n_deleted += 1
    return n_deleted


@contextmanager
def _locked(sessions: sessionmaker[Session], garbage: Garbage) -> Iterator[Session | None]:
    """A transaction in which nobody can begin to use the folder; None if somebody works on it."""
    lock = DATASET_LOCK if garbage.kind in {DATASETS, TAXONOMIES, IMPORTS} else SUBMIT_LOCK
    with transaction(sessions) as session:
        take_lock(session, lock)
        if stage_of_folder(garbage.kind) is not None and not hold_ended_jobs(session, *_artifact(garbage.prefix)):
            yield None
        else:
            yield session


def hold_ended_jobs(session: Session, stage: Stage[Any], key: str) -> bool:
    """Lock the rows of the jobs that make an artifact; False if one is live or locked by another transaction."""
    if stage.changes_hands and stage.table is not None:  # no submit may give it to another job meanwhile
        session.execute(select(stage.table.id).where(stage.table.key == key).with_for_update()).all()
    job_ids = session.scalars(select(Job.id).where(_answers_for(stage, key))).all()
    # Not waited for: whoever holds it may be waiting for a lock of ours.
    states = session.scalars(
        select(Job.state).where(Job.id.in_(job_ids)).order_by(Job.id).with_for_update(skip_locked=True)
    ).all()
    return len(states) == len(job_ids) and not set(states) & set(LIVE_STATES)


def _answers_for(stage: Stage[Any], key: str) -> ColumnElement[bool]:
    """Condition on `job`: it makes, or made, the artifact, or stores objects of it for such a job."""
    makers: Select[Any] | CompoundSelect[Any] = select(Job.id).where(Job.key == key)
    if stage.table is not None:
        makers = union_all(makers, select(stage.table.job_id).where(stage.table.key == key))
    return or_(Job.id.in_(makers), Job.id.in_(filling(makers)))


def _unreferenced(
    session: Session,
    kind: str,
    prefix: str,
    objects: Iterable[ListedObject],
    min_age: timedelta,
    *,
    partial: bool = False,
) -> list[ListedObject]:
    """The objects of a folder that are garbage."""
    old_enough = [listed for listed in objects if listed.last_modified <= datetime.now(UTC) - min_age]
    if stage_of_folder(kind) is not None:
        stage, key = _artifact(prefix)
        states = set(session.scalars(select(Job.state).where(_answers_for(stage, key))))
        if states & set(LIVE_STATES):
            return []
        named = _named(session, stage, key, partial=partial)
        known = bool(states or named)
        return [listed for listed in (objects if known else old_enough) if listed.key not in named]
    if kind == LOGS:
        job_id = int(artifact_of(prefix)[1])
        return [] if session.get(Job, job_id) is not None else old_enough
    if kind == DATASETS:
        return [listed for listed in old_enough if not _listing_is_named(session, listed.key)]
    if kind == IMPORTS:
        return [listed for listed in old_enough if not _import_is_named(session, listed.key)]
    if kind == TAXONOMIES:
        return [listed for listed in old_enough if not _taxonomy_is_named(session, listed.key)]
    return old_enough  # what a check of the service could not delete


def _named(session: Session, stage: Stage[Any], key: str, *, partial: bool = False) -> set[str]:
    """Keys of an artifact's objects that rows refer to.

    With `partial`, without those from which an ended job would continue.
    """
    return {named.key for named in stage.named_objects(session, key) if not (partial and named.is_abandoned)}


def _forget_partial(session: Session, garbage: Garbage) -> None:
    """Clear what a failed or cancelled job would continue from; its next attempt begins anew."""
    maker = _answers_for(*_artifact(garbage.prefix))
    for job in session.scalars(select(Job).where(maker, Job.state.in_(UNSUCCESSFUL_STATES))).all():
        stage = stage_of(job.kind)
        stage.forget(stage.request.model_validate(job.request), job.id, session)


def _listing_is_named(session: Session, object_key: str) -> bool:
    fingerprint, start = listing_of(object_key)
    rows = select(Dataset.id).where(Dataset.fingerprint == fingerprint, Dataset.listing_sha256.startswith(start))
    jobs = [
        select(Job.id).where(
            given["fingerprint"].astext == fingerprint, given["listing_sha256"].astext.startswith(start)
        )
        for given in DATASETS_OF_JOBS
    ]
    return session.scalar(select(or_(exists(rows), *map(exists, jobs)))) is True


def _import_is_named(session: Session, object_key: str) -> bool:
    found = session.scalars(select(ImportedSae).where(ImportedSae.key == artifact_of(object_key)[1])).one_or_none()
    return found is not None and imported_key(found.key, found.weights_sha256) == object_key


def _taxonomy_is_named(session: Session, object_key: str) -> bool:
    key = taxonomy_of(object_key)
    rows = select(Dataset.id).where(Dataset.taxonomy_key == key)
    jobs = [select(Job.id).where(given["taxonomy_key"].astext == key) for given in DATASETS_OF_JOBS]
    return session.scalar(select(or_(exists(rows), *map(exists, jobs)))) is True


def _folder(kind: str, object_key: str) -> str | None:
    """The prefix under which an object is judged together with others; None for an object that is not hsae's."""
    if not is_of_hsae(kind, object_key):
        return None
    if kind in {TAXONOMIES, DOCTOR}:
        return object_key
    return artifact_prefix(*artifact_of(object_key))


def _artifact_folders() -> list[str]:
    return [stage.folder for stage in stages() if stage.folder is not None]


def _artifact(prefix: str) -> tuple[Stage[Any], str]:
    """From `saes/<key>/` to the stage that makes it, and the key."""
    match = re.fullmatch(r"([^/]+)/([0-9a-f]{64})/", prefix)
    stage = None if match is None else stage_of_folder(match[1])
    if match is None or stage is None:
        raise ValueError(f"{prefix!r} is no artifact's folder")
    return stage, match[2]
