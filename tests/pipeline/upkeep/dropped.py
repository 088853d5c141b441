"""What is dropped of a service, and what is left of it."""

from sqlalchemy import select

from hsae.catalog import ActivationSet, transaction
from hsae.pipeline.upkeep.dropping import delete_some, drop_unneeded


def dropped(service):
    """Drop whatever is to be dropped, and delete it; the numbers of the sets."""
    numbers = drop_unneeded(service.sessions, "test")
    while delete_some(service.sessions, service.store):
        pass
    return numbers


def set_of(service, layer):
    """The activation set of a layer."""
    with transaction(service.sessions) as session:
        return session.scalars(select(ActivationSet).where(ActivationSet.layer == layer)).one()


def objects_of(service, layer):
    """The keys of its objects."""
    return set(service.store.list(f"activations/{set_of(service, layer).key}/"))
