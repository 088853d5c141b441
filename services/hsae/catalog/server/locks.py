"""Postgres advisory locks by name. A transaction that takes one waits for the transaction that holds it."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

SUBMIT_LOCK = "hsae.submit"
"""Held by what enters jobs or decides that none is wanted: submit, retry, garbage collection."""
DATASET_LOCK = "hsae.dataset"
"""Held by what stores and enters data sets, or deletes their objects."""


def take_lock(session: Session, name: str) -> None:
    """Wait for a lock and hold it until the transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(name))))
