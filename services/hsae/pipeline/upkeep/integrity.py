"""Checks that the objects named by the catalog's rows exist, with the bytes that were stored."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import Dataset, ImportedSae
from hsae.pipeline.kinds.artifact import NamedObject
from hsae.pipeline.kinds.registry import stages
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.keys import imported_key, listing_key, taxonomy_key
from hsae.store.objects import ObjectStore

_N_THREADS = 8


@dataclass(frozen=True, slots=True)
class Lost:
    """A named object that cannot be read; `fault` is `missing`, or what is wrong with its bytes."""

    object: NamedObject
    fault: str


def named_objects(session: Session) -> list[NamedObject]:
    """Every object that a row names."""
    found = [*_of_datasets(session), *_of_imported_saes(session)]
    for stage in stages():
        found += stage.named_objects(session)
    return found


def _of_datasets(session: Session) -> Iterator[NamedObject]:
    for dataset in session.scalars(select(Dataset).order_by(Dataset.id)):
        what = f"data set {dataset.name}"
        yield NamedObject(listing_key(dataset.fingerprint, dataset.listing_sha256), dataset.listing_sha256, what)
        yield NamedObject(taxonomy_key(dataset.taxonomy_key), dataset.taxonomy_key, what)


def _of_imported_saes(session: Session) -> Iterator[NamedObject]:
    for row in session.scalars(select(ImportedSae).order_by(ImportedSae.id)):
        yield NamedObject(imported_key(row.key, row.weights_sha256), row.weights_sha256, f"imported SAE {row.name}")


def find_lost(
    store: ObjectStore, objects: Sequence[NamedObject], *, on_checked: Callable[[], None] = lambda: None
) -> list[Lost]:
    """Read all of `objects`, several at once; returns the missing and damaged ones, in their order.

    `on_checked` is called after each; an error that it raises ends the search.

    Raises:
        ServiceError: the object store cannot be reached.
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
    """The lost objects that rows still name: a running service may have deleted one in the meantime."""
    named = {(each.key, each.sha256) for each in named_objects(session)}
    return [each for each in lost if (each.object.key, each.object.sha256) in named]
