"""Waiting for what other processes do, making them wait, and looking at what they wrote."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import text

from hsae.catalog import transaction


def rows_of(service, query: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a query."""
    with transaction(service.sessions) as session:
        return [dict(row) for row in session.execute(text(query), values).mappings()]


def events_of(service, job_id: int) -> list[tuple[str, str | None]]:
    """(reason, state) of every event of a job, in order."""
    rows = rows_of(service, "SELECT reason, state FROM job_event WHERE job_id = :id ORDER BY id", id=job_id)
    return [(row["reason"], row["state"]) for row in rows]


def wait_for(
    condition: Callable[[], Any], seconds: float = 180, message: Callable[[], str] = str, every: float = 0.05
) -> None:
    """Wait until the condition holds.

    It is looked at `every` so many seconds, after a while half as often: looking takes the processor from
    what is waited for.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, message()
        time.sleep(every if waited < 40 * every else 2 * every)


def let_leases_expire(service) -> None:
    """Every lease has run out, by the database's clock: as if its worker had been silent for an hour.

    A worker that is alive renews its lease within a second, so this is for workers that are dead or suspended.
    """
    with transaction(service.sessions) as session:
        session.execute(
            text(
                "UPDATE job SET lease_expires_at = clock_timestamp() - interval '1 hour'"
                " WHERE lease_expires_at IS NOT NULL"
            )
        )


_OTHERS = (
    "SELECT {} FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = '{}'"
)


def end_idle_transactions(service) -> None:
    """End what suspended processes have left open, as the server does by itself after two minutes."""
    wait_for(lambda: not rows_of(service, _OTHERS.format("pid", "active")))
    rows_of(service, _OTHERS.format("pg_terminate_backend(pid, 60000)", "idle in transaction"))


def wait_until_running(service, kind: str) -> int:
    """Wait until a job of a kind runs; returns its id."""
    found: list[dict[str, Any]] = []

    def running() -> bool:
        found[:] = rows_of(service, "SELECT id FROM job WHERE kind = :kind AND state = 'running'", kind=kind)
        return bool(found)

    wait_for(running, 300, service.logs)
    return int(found[0]["id"])


# Probes and comparisons of the small request are over too soon to be caught; tests keep them by a lock instead.
_FIRST_SIGN = {"extract": "shard 1 computed", "train": "step 1 of", "analyze": "analyze "}


def is_under_way(service, kind: str, job_id: int) -> bool:
    """Whether a job that runs for the first time has begun its work."""
    return f"[job {job_id}, start 1] {_FIRST_SIGN[kind]}" in service.logs()


def wait_until_under_way(service, kind: str) -> int:
    """Wait until a job of a kind has begun its work, long before its end; returns its id."""
    job_id = wait_until_running(service, kind)
    wait_for(lambda: is_under_way(service, kind, job_id), message=service.logs)
    return job_id


_WAITING_FOR = """
SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
"""


@contextmanager
def writers_stopped(service, table: str) -> Iterator[None]:
    """Whoever is about to write into the table waits; reading it and pointing to its rows goes on."""
    url = service.settings.database_url.get_secret_value()
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:  # the server may die meanwhile
        connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def has_waiting_writer(service, table: str) -> bool:
    """Whether somebody is kept by `writers_stopped`."""
    return bool(rows_of(service, _WAITING_FOR, table=table))


def wait_for_writer(service, table: str) -> None:
    """Wait until somebody is kept by `writers_stopped`."""
    wait_for(lambda: has_waiting_writer(service, table), 240, service.logs)


def end_writer(service, table: str) -> None:
    """End the connection that is kept by `writers_stopped`; the server sees only afterwards that its process died."""
    ended = f"SELECT pg_terminate_backend(pid, 60000) AS ended FROM ({_WAITING_FOR}) AS waiting"
    assert [row["ended"] for row in rows_of(service, ended, table=table)] == [True]
