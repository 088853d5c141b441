"""Renames and removes registered data sets. The images themselves are never touched."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy import ColumnElement, Table, func, or_, select
from sqlalchemy.orm import Session, sessionmaker

from hsae.catalog import Analysis, Dataset, Job, Study, StudyJob, transaction
from hsae.catalog.server.locks import DATASET_LOCK, SUBMIT_LOCK, take_lock
from hsae.errors import ServiceError, UserError
from hsae.pipeline.inputs.dataset_names import NameTakenError, check_name, find_dataset
from hsae.pipeline.kinds.registry import stages
from hsae.pipeline.upkeep.garbage import DATASETS_OF_JOBS, Garbage, collect
from hsae.split_config import SCORE_DATASET
from hsae.store.keys import DATASETS, TAXONOMIES, artifact_prefix, taxonomy_key
from hsae.store.objects import ObjectStore

_N_STUDIES_NAMED = 8
_NAMED_IN_REQUESTS = ("dataset", SCORE_DATASET)


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of a removal."""

    name: str
    root: str
    n_images: int
    was_default: bool
    """Whether `submit` took it by default."""
    default: str | None
    """What `submit` takes by default now; None where no data set is left."""
    n_objects: int = 0
    """Objects deleted from the store; those that another data set shares stay."""
    not_deleted: str | None = None
    """Why objects could not be deleted, where they could not."""


def rename_dataset(sessions: sessionmaker[Session], old: str, new: str) -> tuple[str, str]:
    """Give a data set another name; returns both names. Studies that requested it by its old name get the new one.

    Raises:
        UserError: there is no such data set, or the new name is taken or not allowed.
    """
    new = check_name(new)
    with transaction(sessions) as session:
        _take_turns(session)
        dataset = find_dataset(session, old, lock=True)
        if dataset.name == new:
            return new, new
        taken = session.scalar(select(Dataset).where(Dataset.name == new))
        if taken is not None:
            raise NameTakenError(
                f"the name {new} is taken by a data set of {taken.n_images} images of {taken.root}: choose another"
            )
        old, dataset.name = dataset.name, new
        for field in _NAMED_IN_REQUESTS:
            for study in session.scalars(select(Study).where(Study.request[field].astext == old)):
                study.request = study.request | {field: new}
        scored_apart = Analysis.split.has_key(SCORE_DATASET)
        for analysis in session.scalars(select(Analysis).where(Analysis.dataset_id == dataset.id, scored_apart)):
            analysis.split = (analysis.split or {}) | {SCORE_DATASET: new}
        return old, new


def remove_dataset(sessions: sessionmaker[Session], store: ObjectStore, name: str) -> Removed:
    """Delete a data set from which nothing was computed: its rows, then its listing and its part of the taxonomy.

    Nodes of the taxonomy stay in the catalog, because data sets share them.

    Raises:
        UserError: there is no such data set, or something uses it.
    """
    with transaction(sessions) as session:
        _take_turns(session)
        dataset = find_dataset(session, name, lock=True)
        _refuse_used(session, dataset)
        was_default = dataset.id == session.scalar(select(func.min(Dataset.id)))
        # Under the folder of the fingerprint lie the listings of every data set of these images.
        unnamed = (
            Garbage(DATASETS, artifact_prefix(DATASETS, dataset.fingerprint), ()),
            Garbage(TAXONOMIES, taxonomy_key(dataset.taxonomy_key), ()),
        )
        session.delete(dataset)
        session.flush()
        default = session.scalar(select(Dataset.name).order_by(Dataset.id).limit(1))
        removed = Removed(dataset.name, dataset.root, dataset.n_images, was_default, default)
    # Only now: no row may name an object that is deleted. After a crash here `gc` finds the objects.
    try:
        deleted = collect(sessions, store, unnamed, min_age=timedelta(0))
    except ServiceError as error:
        return replace(removed, not_deleted=str(error))
    return replace(removed, n_objects=sum(len(found.objects) for found in deleted))


def _take_turns(session: Session) -> None:
    """Lock out submits, so that none begins to use the data set, and `dataset add`."""
    for lock in (SUBMIT_LOCK, DATASET_LOCK):
        take_lock(session, lock)


def _asks_for(dataset_id: int) -> ColumnElement[bool]:
    """Condition on `job`: it was requested with this data set. The request of a training only names its activations."""
    return or_(*(given["id"].astext == str(dataset_id) for given in DATASETS_OF_JOBS))


def _studies_of(dataset: Dataset) -> ColumnElement[bool]:
    """Condition on `study`: one of its jobs was requested with this data set, or it names the data set.

    A study that reuses the jobs of a data set with the same images and another name only names its own data set.
    """
    of_its_jobs = select(StudyJob.study_id).join(Job, Job.id == StudyJob.job_id).where(_asks_for(dataset.id))
    named = (Study.request[field].astext == dataset.name for field in _NAMED_IN_REQUESTS)
    return or_(Study.id.in_(of_its_jobs), *named)


def _refuse_used(session: Session, dataset: Dataset) -> None:
    studies = session.scalars(select(Study.id).where(_studies_of(dataset)).order_by(Study.id)).all()
    counts = {"job": select(func.count()).select_from(Job).where(_asks_for(dataset.id))}
    for table in _tables_of_stages():
        counts[table.name.replace("_", " ")] = (
            select(func.count()).select_from(table).where(table.c.dataset_id == dataset.id)
        )
    uses = [_number(n, what) for what, query in counts.items() if (n := session.scalar(query))]
    if studies:
        named = ", ".join(map(str, studies[:_N_STUDIES_NAMED])) + (", ..." if len(studies) > _N_STUDIES_NAMED else "")
        uses.insert(0, f"{'study' if len(studies) == 1 else 'studies'} {named}")
    if uses:
        raise UserError(
            f"data set {dataset.name} stays, for results belong to it: {', '.join(uses)}; to free its name, use"
            f" `hsae-admin dataset rename {dataset.name} NEW`"
        )


def _tables_of_stages() -> Iterator[Table]:
    """The tables of artifacts that name a data set, in the order of the stages."""
    for stage in stages():
        table = None if stage.table is None else stage.table.__table__
        if table is not None and "dataset_id" in table.c:
            yield table


def _number(n: int, what: str) -> str:
    plural = {"analysis": "analyses"}.get(what, f"{what}s")
    return f"{n} {what if n == 1 else plural}"
