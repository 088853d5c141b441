"""Are the objects there that the catalog's rows name, with the bytes that they had when they were stored?"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import ActivationSet, ActivationShard, Analysis, Dataset, Job, Sae
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import class_sums_key, latents_key, listing_key, manifest_key, taxonomy_key, weights_key
from hsae.store.objects import ObjectStore

_N_THREADS = 8


@dataclass(frozen=True, slots=True)
class NamedObject:
    """An object that a row names.

    `what`: what it is a part of, for people; `job_id`: the job that made it, None for a data set's;
    `is_checkpoint`: nobody but a training that has not ended needs it.
    """

    key: str
    sha256: str
    what: str
    job_id: int | None = None
    is_checkpoint: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A named object that cannot be had; `fault` is `missing`, or what is wrong with its bytes."""

    object: NamedObject
    fault: str


def named_objects(session: Session, prefix: str = "") -> list[NamedObject]:
    """Every object under `prefix` that a row names."""
    every = (*_of_datasets(session), *_of_activations(session), *_of_saes(session), *_of_analyses(session))
    return [named for named in every if named.key.startswith(prefix)]


def _of_datasets(session: Session) -> Iterator[NamedObject]:
    for dataset in session.scalars(select(Dataset).order_by(Dataset.id)):
        what = f"data set {dataset.name}"
        yield NamedObject(listing_key(dataset.fingerprint, dataset.listing_sha256), dataset.listing_sha256, what)
        yield NamedObject(taxonomy_key(dataset.taxonomy_key), dataset.taxonomy_key, what)


def _of_activations(session: Session) -> Iterator[NamedObject]:
    sets = select(ActivationSet, Job.title).join(Job, Job.id == ActivationSet.job_id).order_by(ActivationSet.id)
    for row, title in session.execute(sets).all():
        what = f"layer {row.layer} of: {title}"
        shards = select(ActivationShard).where(ActivationShard.activation_set_id == row.id)
        for shard in session.scalars(shards.order_by(ActivationShard.shard)):
            yield NamedObject(shard.object_key, shard.sha256, what, row.job_id)
        if row.manifest_sha256 is not None:
            key = manifest_key(row.key, row.manifest_sha256)
            yield NamedObject(key, row.manifest_sha256, what, row.job_id)


def _of_saes(session: Session) -> Iterator[NamedObject]:
    saes = select(Sae.key, Sae.weights_sha256, Sae.job_id, Job.title).join(Job, Job.id == Sae.job_id).order_by(Sae.id)
    for row in session.execute(saes):
        yield NamedObject(weights_key(row.key, row.weights_sha256), row.weights_sha256, row.title, row.job_id)
    for job in session.scalars(select(Job).where(Job.checkpoint.is_not(None)).order_by(Job.id)):
        saved = job.checkpoint or {}
        what = f"checkpoint of: {job.title}"
        yield NamedObject(saved["object_key"], saved["sha256"], what, job.id, is_checkpoint=True)


def _of_analyses(session: Session) -> Iterator[NamedObject]:
    analyses = select(Analysis, Job.title).join(Job, Job.id == Analysis.job_id).order_by(Analysis.id)
    for row, title in session.execute(analyses):
        latents, sums = row.activations_sha256, row.class_sums_sha256
        yield NamedObject(latents_key(row.key, latents), latents, title, row.job_id)
        yield NamedObject(class_sums_key(row.key, sums), sums, title, row.job_id)


def find_lost(
    store: ObjectStore, objects: Sequence[NamedObject], *, on_checked: Callable[[], None] = lambda: None
) -> list[Lost]:
    """Read all of `objects`, several at once; returns those that are missing or damaged, in their order.

    `on_checked` is called after each; what it raises ends the search.

    Raises:
        ServiceError: when the object store cannot be reached.
    """

    def fault_of(named: NamedObject) -> str | None:
        try:
            store.check(named.key, sha256=named.sha256)
        except ObjectMissingError:
            return "missing"
        except ObjectCorruptError as error:
            return error.reason
        return None

    lost = []
    with ThreadPoolExecutor(_N_THREADS) as pool:
        try:
            for named, fault in zip(objects, pool.map(fault_of, objects), strict=True):
                if fault is not None:
                    lost.append(Lost(named, fault))
                on_checked()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return lost


def still_named(session: Session, lost: Sequence[Lost]) -> list[Lost]:
    """Those that rows name even now: a running service may have let go of an object, and deleted it, meanwhile."""
    named = {(each.key, each.sha256) for each in named_objects(session)}
    return [each for each in lost if (each.object.key, each.object.sha256) in named]
