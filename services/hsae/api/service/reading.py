"""Reads of stored objects, and what happens where one is lost."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hsae.catalog import transaction
from hsae.errors import UserError
from hsae.pipeline.connections import Connections
from hsae.pipeline.upkeep.damage import forget_object
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class StoredReader:
    """What `hsae.pipeline.stages.activation_reader` needs of a program that is no job."""

    connections: Connections

    @property
    def store(self) -> ObjectStore:
        """The object store."""
        return self.connections.store

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction for reading."""
        return transaction(self.connections.sessions)

    def check(self) -> None:
        """Nobody takes a notebook's work away from it."""


@contextmanager
def losses_noted(connections: Connections) -> Iterator[None]:
    """Mark the job that made a lost or damaged object as failed, so that the next submit makes it again.

    Who may only read the catalog gets the same error without that.

    Raises:
        ObjectMissingError, ObjectCorruptError: as in the block.
    """
    try:
        yield
    except (ObjectMissingError, ObjectCorruptError) as loss:
        with suppress(UserError), transaction(connections.sessions) as session:
            forget_object(session, loss.key, "Python API", str(loss))
        raise
