"""SIGKILL of the worker's child or of Postgres at the moment of publishing.

Locks that the test takes in Postgres stop the child exactly there.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import psycopg
import pytest
from tests.faults.standing import KINDS, Standing
from tests.faults.waiting import events_of, rows_of, wait_for

from hsae.pipeline.plan import Plan

_PUBLISHED_IN = {"extract": "activation_set", "train": "sae", "analyze": "analysis", "compare": "comparison"}
_FOLDERS = {"extract": "activations/", "train": "saes/", "analyze": "analyses/"}
_N_PUBLISHED = {
    "extract": "SELECT count(*) AS n FROM activation_set WHERE job_id = :id AND manifest_sha256 IS NOT NULL",
    "train": "SELECT count(*) AS n FROM sae WHERE job_id = :id",
    "analyze": "SELECT count(*) AS n FROM analysis WHERE job_id = :id",
    "compare": "SELECT count(*) AS n FROM comparison WHERE job_id = :id",
}
_WAITS_FOR = """
SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE datname = current_database() AND relation = CAST(:table AS regclass) AND NOT granted
"""


@contextmanager
def _writers_stopped(standing: Standing, table: str) -> Iterator[None]:
    """Whoever is about to write into the table waits; reading it and pointing to its rows goes on."""
    url = standing.service.settings.database_url.get_secret_value()
    with suppress(psycopg.OperationalError), psycopg.connect(url) as connection:
        connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield


def _wait_for_writer(standing: Standing, table: str) -> None:
    wait_for(lambda: rows_of(standing.service, _WAITS_FOR, table=table), 90, standing.service.logs)


def _kill_child_at(standing: Standing, table: str) -> None:
    service = standing.service
    _wait_for_writer(standing, table)
    children = psutil.Process(service.workers[0].pid).children()
    assert len(children) == 1
    children[0].kill()
    psutil.wait_procs(children, timeout=10)


def _n_sets(plan: Plan) -> int:
    """Activation sets that its extraction makes: the last layer's too, for the embeddings."""
    (layers,) = (job.layers for job in plan.jobs if job.kind == "extract")
    return len(layers)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_right_before_and_right_after_the_commit(standing, kind):
    service = standing.service
    plan = standing.submit_from(kind)
    with _writers_stopped(standing, _PUBLISHED_IN[kind]):
        _kill_child_at(standing, _PUBLISHED_IN[kind])
        (job,) = rows_of(service, "SELECT id, attempt FROM job WHERE kind = :kind AND state = 'running'", kind=kind)
        assert job["attempt"] == 1
        # Every object is stored, and none counts.
        assert kind not in _FOLDERS or list(service.store.list(_FOLDERS[kind]))
        assert rows_of(service, _N_PUBLISHED[kind], id=job["id"]) == [{"n": 0}]
    again = "SELECT 1 FROM job WHERE id = :id AND attempt = 2 AND state = 'running'"
    wait_for(lambda: rows_of(service, again, id=job["id"]), 90, service.logs)
    # The history of the job is first written into when it is published and about to succeed.
    with _writers_stopped(standing, "job_event"):
        _kill_child_at(standing, "job_event")
        n_published = rows_of(service, _N_PUBLISHED[kind], id=job["id"])[0]["n"]
        assert n_published == (_n_sets(plan) if kind == "extract" else 1)
    jobs = {job["id"]: job for job in standing.check_finished(plan)}
    assert jobs[job["id"]]["attempt"] == 3
    reasons = [reason for reason, _ in events_of(service, job["id"]) if reason not in ("submitted", "released")]
    assert reasons == ["claimed", "retried"] * 2 + ["claimed", "succeeded"]


@pytest.mark.parametrize(
    ("kind", "table"),
    [("extract", "activation_set"), ("train", "sae"), ("analyze", "latent"), ("compare", "comparison_score")],
)
def test_postgres_killed_in_the_middle_of_the_transaction(standing, kind, table):
    """An analysis is killed while it loads its scores by COPY."""
    plan = standing.submit_from(kind)
    with _writers_stopped(standing, table):
        _wait_for_writer(standing, table)
        standing.end_server("postgres")
        time.sleep(1)
        standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()
    assert sum(job["outages"] for job in jobs) == 1
