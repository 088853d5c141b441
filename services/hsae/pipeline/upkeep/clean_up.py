"""Deletes what an ended job left."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import Job
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.upkeep.garbage import sweep
from hsae.store.objects import ObjectStore


def clean_up(
    begin: Callable[[], AbstractContextManager[Session]],
    store: ObjectStore,
    job_id: int,
    state: str,
    *,
    fence: int | None = None,
    forget: bool = True,
) -> None:
    """Delete a job's partial work in transactions that hold its row, unless the job was requested again since.

    The rows go first, and the objects after the commit, so an interrupted clean-up leaves no row that names a deleted
    object.

    Args:
        begin: begins a transaction.
        store: where the objects are.
        job_id: a job that has ended.
        state: the state in which it ended; in another state it is left alone.
        fence: the start that ended; after another start it is left alone.
        forget: whether to delete the rows, too; otherwise only objects that no row names are deleted.

    Raises:
        ServiceError: the database or the object store fails.
    """

    def forget_rows(session: Session, job: Job) -> None:
        stage = stage_of(job.kind)
        stage.forget(stage.request.model_validate(job.request), job_id, session)

    def delete_objects(session: Session, job: Job) -> None:
        stage = stage_of(job.kind)
        sweep(session, store, stage.prefixes(stage.request.model_validate(job.request)))

    for step in (forget_rows, delete_objects) if forget else (delete_objects,):
        with begin() as session:
            job = session.execute(select(Job).where(Job.id == job_id).with_for_update()).scalar_one()
            if job.state != state or fence not in (None, job.fence):
                return
            step(session, job)
