"""Postgres advisory locks by name. A transaction that takes one waits for the transaction that holds it."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

SUBMIT_LOCK = "hsae.submit"
"""Held by what enters jobs or decides that none is wanted: submit, retry, garbage collection."""
DATASET_LOCK = "hsae.dataset"
"""Held by what stores and enters data sets, or deletes their objects."""


DROP_LOCK = "hsae.drop"
"""Held by the one process that deletes what studies no longer want."""


def take_lock(session: Session, name: str) -> None:
    """Wait for a lock and hold it until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))


def is_free(session: Session, name: str) -> bool:
    """Take a lock until the transaction ends, if nobody else holds it; says whether that was so."""
    return session.execute(select(func.pg_try_advisory_xact_lock(func.hashtext(name)))).scalar_one() is True
