"""Activation sets that their studies want gone are dropped once nothing needs them: first the rows, then the objects.

A set is dropped if a study that says so (`drop_after`) has worked on it, every job that reads it and belongs to a study
has succeeded, none of these studies keeps its activations, and no other job that reads or makes it is under way. All of
this is decided from rows, under the lock by which submits and retries take turns: whoever asks for the set before has
its job there and keeps the set; whoever asks after it finds the set dropped, and has it extracted again.

The rows of the shards go in that transaction, so that no row names an object that is deleted. The objects go some at a
time, each time with the set's row locked: the set cannot be opened for another extraction meanwhile, and one that was
opened is left alone. Whoever is killed leaves a set that was dropped and is not freed yet, and the next one goes on.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from sqlalchemy import Select, delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import (
    LIVE_STATES,
    ActivationSet,
    ActivationShard,
    Job,
    Study,
    StudyJob,
    connect,
    session_factory,
    transaction,
)
from hsae.catalog.server.locks import DROP_LOCK, SUBMIT_LOCK, is_free, take_lock
from hsae.pipeline.kinds.activation_sets.readers import readers
from hsae.pipeline.kinds.extract import EXTRACT
from hsae.pipeline.queue.jobs import record
from hsae.pipeline.upkeep.garbage import hold_ended_jobs
from hsae.settings import Settings
from hsae.store.keys import ACTIVATIONS, artifact_prefix, manifest_key
from hsae.store.objects import ObjectStore

_AT_ONCE = 512
_N_THREADS = 8
_KEEPS = Study.request["drop_after"].astext.is_(None)


def drop_activations(settings: Settings, who: str, stop_requested: Callable[[], bool] = lambda: False) -> None:
    """Drop what is to be dropped, and delete the objects of what was; one process at a time, the others do nothing.

    Args:
        settings: of the service.
        who: for the history of the jobs that made the sets.
        stop_requested: asked between some hundreds of objects; what is left is the next call's.

    Raises:
        ServiceError: the database or the object store cannot be reached; the next call goes on.
    """
    engine = connect(settings)
    try:
        sessions = session_factory(engine)
        drop_unneeded(sessions, who)
        if not is_anything_left(sessions):
            return
        store = ObjectStore.from_settings(settings)
        while not stop_requested() and delete_some(sessions, store):
            pass
    finally:
        engine.dispose()


def drop_unneeded(sessions: sessionmaker[Session], who: str) -> list[int]:
    """Drop the sets that nothing needs any more; returns their numbers. Their objects are still there.

    Raises:
        ServiceError: the database cannot be reached.
    """
    with transaction(sessions) as session:
        if not _given_up(session):  # most often; no submit waits for that look
            return []
    with transaction(sessions) as session:
        if not is_free(session, DROP_LOCK):
            return []
        take_lock(session, SUBMIT_LOCK)
        given_up = _given_up(session)
        return [number for key in sorted(given_up - _needed(session, given_up)) if (number := _drop(session, key, who))]


def is_anything_left(sessions: sessionmaker[Session]) -> bool:
    """Whether objects of dropped sets may be there."""
    with transaction(sessions) as session:
        return session.scalar(_dropping().with_only_columns(ActivationSet.id).limit(1)) is not None


def delete_some(sessions: sessionmaker[Session], store: ObjectStore, *, at_once: int = _AT_ONCE) -> bool:
    """Delete some objects of one dropped set, all but its manifest; False where nothing is left to do here.

    Raises:
        ServiceError: the database or the object store cannot be reached; the next call goes on.
    """
    with transaction(sessions) as session:
        if not is_free(session, DROP_LOCK):
            return False
        found = _dropping().order_by(ActivationSet.id).limit(1)
        row = session.scalars(found.with_for_update(key_share=True, skip_locked=True)).one_or_none()
        if row is None:
            return False
        kept = manifest_key(row.key, row.manifest_sha256 or "")
        listed = (key for key in store.list(artifact_prefix(ACTIVATIONS, row.key)) if key != kept)
        left = list(islice(listed, at_once))
        with ThreadPoolExecutor(_N_THREADS, thread_name_prefix="dropping") as pool:
            for start in range(0, len(left), _N_THREADS):
                # Suspended for long, this process has lost the lock: then it fails here and deletes nothing more.
                session.execute(select(1))
                list(pool.map(store.delete, left[start : start + _N_THREADS]))
        if len(left) < at_once:
            row.freed_at = func.clock_timestamp()
        return True


def _dropping() -> Select[ActivationSet]:
    """The dropped sets of which objects may be there."""
    return select(ActivationSet).where(ActivationSet.dropped_at.is_not(None), ActivationSet.freed_at.is_(None))


def _given_up(session: Session) -> set[str]:
    """The stored sets that a study wants dropped and whose jobs in that study have succeeded."""
    jobs = select(StudyJob.job_id).join(Study, Study.id == StudyJob.study_id).where(~_KEEPS)
    reader = readers(Job.id.in_(jobs))
    stored = ActivationSet.manifest_sha256.is_not(None) & ActivationSet.dropped_at.is_(None)
    found = (
        select(reader.c.key)
        .join(ActivationSet, ActivationSet.key == reader.c.key)
        .where(stored)
        .group_by(reader.c.key)
        .having(func.bool_or(reader.c.of_layer), func.bool_and(reader.c.state == "succeeded"))
    )
    return set(session.scalars(found))


def _needed(session: Session, keys: set[str]) -> set[str]:
    """Those of these sets that a job under way, a study that keeps them, or a job of any study may still need."""
    reader = readers()
    of_studies = select(StudyJob.job_id)
    keeping = of_studies.join(Study, Study.id == StudyJob.study_id).where(_KEEPS)
    is_needed = (
        reader.c.state.in_(LIVE_STATES)
        | reader.c.job_id.in_(keeping)
        | ((reader.c.state != "succeeded") & reader.c.job_id.in_(of_studies))
    )
    return set(session.scalars(select(reader.c.key).where(reader.c.key.in_(keys), is_needed)))


def _drop(session: Session, key: str, who: str) -> int | None:
    """Drop a set; its number, or None where a job that makes it is under way or in somebody's hands."""
    if not hold_ended_jobs(session, EXTRACT, key):
        return None
    row = session.scalars(select(ActivationSet).where(ActivationSet.key == key)).one()
    session.execute(delete(ActivationShard).where(ActivationShard.activation_set_id == row.id))
    row.dropped_at, row.freed_at = func.clock_timestamp(), None
    why = f"the activations of layer {row.layer} (set {row.id}) are dropped: every job that reads them has succeeded"
    record(session, row.job_id, who, why)
    session.flush()
    return row.id
