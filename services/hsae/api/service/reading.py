"""Reads of stored objects, and what happens where one is lost."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hsae.catalog import transaction
from hsae.pipeline.connections import Connections
from hsae.pipeline.upkeep import damage
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


def losses_noted(connections: Connections) -> AbstractContextManager[None]:
    """A lost object that the block misses is made again by the next submit (`hsae.pipeline.upkeep.damage`)."""
    return damage.losses_noted(connections.sessions, "Python API")
