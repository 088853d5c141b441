"""Garbage collection: deletes the objects of the bucket that no row of the catalog refers to.

What counts as referenced: shards by `activation_shard.object_key`, manifests by `activation_set.manifest_sha256`,
weights by `sae.weights_sha256`, an analysis' objects by its two checksums, checkpoints by `job.checkpoint`, listings
and taxonomies by `dataset` and by the requests of jobs, logs by their job. Anything outside hsae's own folders, or
in them under a name that hsae does not give, is somebody else's and never touched.

Safe beside a running service:

- The objects of an artifact whose job waits, is queued or runs are left alone: they are work in progress.
- Before anything of an artifact is deleted, its folder is looked at again in a transaction that holds the lock which
  submits take turns by and its job's row. Until that transaction ends no submit can enter a job for the artifact, no
  `jobs retry` can queue it and no worker can claim it, so that nobody stores what is being deleted. A row that somebody
  else holds is at work: its artifact is left for the next time.
- Listings and taxonomies are deleted under the lock under which `dataset add` stores and enters them.
- What no row knows at all is deleted only once it is `min_age` old, so that objects stored before the rows that will
  name them are safe also from a clean-up by an older or a mistaken catalog.

A worker that lost its lease may still store an object after the clean-up; no row names it and the next one finds it.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, delete, exists, false, func, null, select, update
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import (
    LIVE_STATES,
    UNSUCCESSFUL_STATES,
    ActivationSet,
    ActivationShard,
    Analysis,
    Dataset,
    Job,
    Sae,
    transaction,
)
from hsae.catalog.server.locks import DATASET_LOCK, SUBMIT_LOCK
from hsae.store.keys import (
    ACTIVATIONS,
    ANALYSES,
    DATASETS,
    DOCTOR,
    LOGS,
    SAES,
    TAXONOMIES,
    class_sums_key,
    latents_key,
    manifest_key,
    weights_key,
)
from hsae.store.objects import ListedObject, ObjectStore

_ARTIFACTS = (ACTIVATIONS, SAES, ANALYSES)
KINDS = (*_ARTIFACTS, DATASETS, TAXONOMIES, LOGS, DOCTOR)

_DELETES_PER_TRANSACTION = 500  # submits wait meanwhile
_OURS = {
    **{kind: re.compile(rf"{kind}/[0-9a-f]{{64}}/.+") for kind in _ARTIFACTS},
    DATASETS: re.compile(r"datasets/[0-9a-f]{64}/listing-[0-9a-f]{16}\.parquet"),
    TAXONOMIES: re.compile(r"taxonomies/[0-9a-f]{64}\.json"),
    LOGS: re.compile(r"logs/[0-9]{1,18}/.+"),
    DOCTOR: re.compile(r"doctor/[0-9a-f]{16}"),
}


@dataclass(frozen=True, slots=True)
class Garbage:
    """Objects of one folder that no row refers to."""

    kind: str
    prefix: str
    objects: tuple[ListedObject, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all of them."""
        return sum(listed.n_bytes for listed in self.objects)


def find_garbage(
    sessions: sessionmaker[Session], store: ObjectStore, *, min_age: timedelta, partial: bool = False
) -> Iterator[Garbage]:
    """Look, take nothing away. With `partial` also what failed and cancelled jobs keep for a later attempt.

    Raises:
        ServiceError: when the database or the object store cannot be reached.
    """
    for kind in KINDS:
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
    """Delete what `find_garbage` found, as far as it still is garbage; returns what was deleted.

    Raises:
        ServiceError: when the database or the object store cannot be reached; calling again goes on.
    """
    deleted = []
    for found in garbage:
        if partial and found.kind in _ARTIFACTS:
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
    """Delete what no row refers to under the folders of artifacts (`saes/<key>/`); returns how many objects.

    The caller holds the row of an ended job that made them in `session`, so that nobody starts it meanwhile. An
    artifact that another job makes by now, or that somebody else is changing, is left alone.

    Raises:
        ServiceError: when the object store cannot be reached.
    """
    session.flush()
    n_deleted = 0
    for prefix in prefixes:
        kind, key = _artifact(prefix)
        if not _hold_ended_jobs(session, kind, key):
            continue
        named = _named(session, kind, key)
        for listed in list(store.entries(prefix)):
            if listed.key not in named:
                store.delete(listed.key)
                n_deleted += 1
    return n_deleted


@contextmanager
def _locked(sessions: sessionmaker[Session], garbage: Garbage) -> Iterator[Session | None]:
    """A transaction in which nobody can begin to use the folder; None where somebody is at work on it."""
    lock = DATASET_LOCK if garbage.kind in {DATASETS, TAXONOMIES} else SUBMIT_LOCK
    with transaction(sessions) as session:
        session.execute(select(func.pg_advisory_xact_lock(func.hashtext(lock))))
        if garbage.kind in _ARTIFACTS and not _hold_ended_jobs(session, *_artifact(garbage.prefix)):
            yield None
        else:
            yield session


def _hold_ended_jobs(session: Session, kind: str, key: str) -> bool:
    """Lock the rows of the jobs that answer for an artifact; False if one is live or in somebody else's hands."""
    if kind == ACTIVATIONS:  # no submit may give it to another job meanwhile
        session.execute(select(ActivationSet.id).where(ActivationSet.key == key).with_for_update()).all()
    job_ids = session.scalars(select(Job.id).where(_answers_for(kind, key))).all()
    # Not waited for: whoever holds it may be waiting for a lock of ours.
    states = session.scalars(
        select(Job.state).where(Job.id.in_(job_ids)).order_by(Job.id).with_for_update(skip_locked=True)
    ).all()
    return len(states) == len(job_ids) and not set(states) & set(LIVE_STATES)


def _answers_for(kind: str, key: str) -> ColumnElement[bool]:
    """Condition on `job`: it makes, or made, the artifact."""
    if kind == ACTIVATIONS:
        return Job.id.in_(select(ActivationSet.job_id).where(ActivationSet.key == key))
    return Job.key == key


def _unreferenced(
    session: Session,
    kind: str,
    prefix: str,
    objects: Iterable[ListedObject],
    min_age: timedelta,
    *,
    partial: bool = False,
) -> list[ListedObject]:
    """Those of a folder's objects that are garbage."""
    old_enough = [listed for listed in objects if listed.last_modified <= datetime.now(UTC) - min_age]
    if kind in _ARTIFACTS:
        _, key = _artifact(prefix)
        states = set(session.scalars(select(Job.state).where(_answers_for(kind, key))))
        if states & set(LIVE_STATES):
            return []
        named = _named(session, kind, key, partial=partial)
        known = bool(states or named)
        return [listed for listed in (objects if known else old_enough) if listed.key not in named]
    if kind == LOGS:
        job_id = int(prefix.split("/")[1])
        return [] if session.get(Job, job_id) is not None else old_enough
    if kind == DATASETS:
        return [listed for listed in old_enough if not _listing_is_named(session, listed.key)]
    if kind == TAXONOMIES:
        return [listed for listed in old_enough if not _taxonomy_is_named(session, listed.key)]
    return old_enough  # what a check of the service could not delete


def _named(session: Session, kind: str, key: str, *, partial: bool = False) -> set[str]:
    """Keys of an artifact's objects that rows refer to; with `partial`, without what an ended job would go on from."""
    if kind == ACTIVATIONS:
        return _named_activations(session, key, partial=partial)
    if kind == SAES:
        weights = session.scalars(select(Sae.weights_sha256).where(Sae.key == key))
        ended = Job.state.in_(UNSUCCESSFUL_STATES) if partial else false()
        checkpoints = session.scalars(select(Job.checkpoint).where(Job.key == key, Job.checkpoint.is_not(None), ~ended))
        return {weights_key(key, sha256) for sha256 in weights} | {
            saved["object_key"] for saved in checkpoints if saved is not None
        }
    named = set()
    for latents, class_sums in session.execute(
        select(Analysis.activations_sha256, Analysis.class_sums_sha256).where(Analysis.key == key)
    ):
        named |= {latents_key(key, latents), class_sums_key(key, class_sums)}
    return named


def _named_activations(session: Session, key: str, *, partial: bool) -> set[str]:
    row = session.execute(
        select(ActivationSet.id, ActivationSet.manifest_sha256, Job.state)
        .join(Job, Job.id == ActivationSet.job_id)
        .where(ActivationSet.key == key)
    ).one_or_none()
    if row is None or (partial and row.manifest_sha256 is None and row.state in UNSUCCESSFUL_STATES):
        return set()
    shards = select(ActivationShard.object_key).where(ActivationShard.activation_set_id == row.id)
    manifest = set() if row.manifest_sha256 is None else {manifest_key(key, row.manifest_sha256)}
    return set(session.scalars(shards)) | manifest


def _forget_partial(session: Session, garbage: Garbage) -> None:
    """Forget what a failed or cancelled job would go on from; its next attempt begins anew."""
    kind, key = _artifact(garbage.prefix)
    if kind == ACTIVATIONS:
        unpublished = (
            select(ActivationSet.id)
            .join(Job, Job.id == ActivationSet.job_id)
            .where(
                ActivationSet.key == key, ActivationSet.manifest_sha256.is_(None), Job.state.in_(UNSUCCESSFUL_STATES)
            )
        )
        session.execute(delete(ActivationShard).where(ActivationShard.activation_set_id.in_(unpublished)))
    elif kind == SAES:
        session.execute(update(Job).where(Job.key == key, Job.state.in_(UNSUCCESSFUL_STATES)).values(checkpoint=null()))


def _listing_is_named(session: Session, object_key: str) -> bool:
    _, fingerprint, name = object_key.split("/")
    start = name.removeprefix("listing-").removesuffix(".parquet")
    rows = select(Dataset.id).where(Dataset.fingerprint == fingerprint, Dataset.listing_sha256.startswith(start))
    given = Job.request["dataset"]
    jobs = select(Job.id).where(
        given["fingerprint"].astext == fingerprint, given["listing_sha256"].astext.startswith(start)
    )
    return session.scalar(select(exists(rows) | exists(jobs))) is True


def _taxonomy_is_named(session: Session, object_key: str) -> bool:
    key = object_key.removeprefix(f"{TAXONOMIES}/").removesuffix(".json")
    rows = select(Dataset.id).where(Dataset.taxonomy_key == key)
    jobs = select(Job.id).where(Job.request["dataset"]["taxonomy_key"].astext == key)
    return session.scalar(select(exists(rows) | exists(jobs))) is True


def _folder(kind: str, object_key: str) -> str | None:
    """The prefix under which an object is judged together with others; None for an object that is not ours."""
    if not _OURS[kind].fullmatch(object_key):
        return None
    if kind in {TAXONOMIES, DOCTOR}:
        return object_key
    return "/".join(object_key.split("/")[:2]) + "/"


def _artifact(prefix: str) -> tuple[str, str]:
    """`saes/<key>/` as kind and key."""
    match = re.fullmatch(rf"({'|'.join(_ARTIFACTS)})/([0-9a-f]{{64}})/", prefix)
    if match is None:
        raise ValueError(f"{prefix!r} is no artifact's folder")
    return match[1], match[2]
