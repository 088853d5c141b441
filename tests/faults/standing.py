"""A service on servers of its own, whose one worker stays warm from one fault to the next."""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from sqlalchemy import select, text
from tests.conftest import Service
from tests.small import all_results, submit_mapped, wait_until_done
from tests.waiting import rows_of, wait_for, wait_for_writer, writers_stopped

from hsae.catalog import ActivationSet, ActivationShard, Analysis, MapSet, Sae, transaction
from hsae.embedded import Stack
from hsae.pipeline.planning.submit import Plan
from hsae.pipeline.queue.reconcile import RECONCILER_LOCK
from hsae.pipeline.upkeep.garbage import find_garbage
from hsae.store.keys import LOGS, class_sums_key, latents_key, manifest_key, maps_key, weights_key

# Long enough for a machine with other work; tests end the leases of dead workers by `let_leases_expire`, but for one
# that waits.
LEASE_SECONDS = 12.0
_START_SECONDS = 0.2  # in which such a machine starts Python


@functools.cache
def lease_seconds() -> float:
    """LEASE_SECONDS, and up to five times as long on a machine that starts Python as slowly: it pauses as long."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import json"], check=True)
    return LEASE_SECONDS * min(5.0, max(1.0, (time.perf_counter() - start) / _START_SECONDS))


IN_TURN = ("extract", "train", "analyze", "compare")
"""Each waits for the one before; a probe runs at any time after the extraction, a map after its analysis."""
KINDS = (*IN_TURN, "probe", "map")
FOLDERS = {
    "extract": "activations/",
    "train": "saes/",
    "analyze": "analyses/",
    "map": "maps/",
}  # the others are rows only
# What a stage is seen at its middle by: rows of its own that it has committed.
_IN_THE_MIDDLE = {
    "extract": "SELECT 1 FROM job j JOIN activation_set s ON s.job_id = j.id JOIN activation_shard h"
    " ON h.activation_set_id = s.id WHERE j.kind = 'extract' AND j.state = 'running' HAVING count(*) BETWEEN 2 AND 12",
    "train": "SELECT 1 FROM job WHERE kind = 'train' AND state = 'running' AND checkpoint IS NOT NULL",
    "analyze": "SELECT 1 FROM job WHERE kind = 'analyze' AND state = 'running'",
}


@dataclass
class Standing:
    """A service with its own servers, and what a run on it makes that nothing disturbs."""

    service: Service
    stack: Stack
    results: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def submit_from(self, kind: str) -> Plan:
        """Forget what this stage and the later ones made, and submit the small request again."""
        self.forget(kind)
        return submit_mapped(self.service)

    def forget(self, kind: str) -> None:
        """Forget what this stage and the later ones made."""
        forget(self.service, kind)

    def wait_for_middle(self, kind: str) -> None:
        """Return while a job of this kind is in the middle of its work."""
        wait_for(lambda: rows_of(self.service, _IN_THE_MIDDLE[kind]))

    @contextmanager
    def in_the_middle(self, kind: str) -> Iterator[None]:
        """While a job of this kind is in the middle of its work; one that is over too soon is kept at its end."""
        if kind in _IN_THE_MIDDLE:
            self.wait_for_middle(kind)
            yield
            return
        table = {"compare": "comparison", "probe": "class_probe", "map": "map_set"}[kind]
        with writers_stopped(self.service, table):
            wait_for_writer(self.service, table)
            yield

    def end_server(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End a server; SIGKILL goes to all of its processes."""
        (server,) = [server for server in self.stack.status().servers if server.name == name]
        assert server.pid is not None
        if number == signal.SIGKILL:
            os.killpg(server.pid, number)
        else:
            os.kill(server.pid, number)
        wait_for(lambda: not self.stack.status().running)

    def end_postgres_for_an_hour(self) -> None:
        """SIGKILL of Postgres; when it is back, its clock says that every lease has been over for an hour."""
        url = self.service.settings.database_url.get_secret_value()
        with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as connection:
            # No reconciler may look at the leases before the server is away.
            connection.execute("SELECT pg_advisory_lock(%s)", [RECONCILER_LOCK])
            # The row of a job that is about to publish is locked by it.
            connection.execute(
                "UPDATE job SET lease_expires_at = clock_timestamp() - interval '1 hour' WHERE id IN"
                " (SELECT id FROM job WHERE state = 'running' FOR UPDATE SKIP LOCKED)"
            )
            self.end_server("postgres")

    def check_finished(self, plan: Plan, *, seconds: float = 300) -> list[dict]:
        """Wait for the plan's jobs, which must end as in the undisturbed run; returns what it entered anew."""
        wait_until_done(self.service, plan.study_id, seconds)
        jobs = rows_of(
            self.service,
            "SELECT j.*, s.reused FROM job j JOIN study_job s ON s.job_id = j.id WHERE study_id = :study ORDER BY j.id",
            study=plan.study_id,
        )
        assert {job["state"] for job in jobs} == {"succeeded"}, self.service.logs()
        assert all_results(self.service) == self.results
        assert_no_orphans(self.service)
        return [job for job in jobs if not job["reused"]]


def forget(service: Service, kind: str) -> None:
    """Delete the studies, and of this stage and the later ones jobs, rows and objects: they were never made."""
    kinds = KINDS[KINDS.index(kind) :]
    live = "state IN ('waiting', 'queued', 'running')"
    if rows_of(service, f"SELECT id FROM job WHERE {live}"):  # an earlier test failed
        service.stop_workers()
        service.workers.clear()
        with transaction(service.sessions) as session:
            session.execute(text(f"UPDATE job SET state = 'cancelled' WHERE {live}"))
        service.start_worker()
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM study"))
        if "analyze" in kinds:
            for (analysis,) in session.execute(text("SELECT id FROM analysis")).all():
                session.execute(text(f"DROP TABLE node_score_a{analysis}"))
        for table in ("map_set", "class_probe", "comparison", "analysis", "sae", "activation_set")[: len(kinds)]:
            session.execute(text(f"DELETE FROM {table}"))
        job_ids = session.scalars(text("DELETE FROM job WHERE kind = ANY(:kinds) RETURNING id"), {"kinds": list(kinds)})
        prefixes = [f"logs/{job_id}/" for job_id in job_ids] + [FOLDERS[kind] for kind in kinds if kind in FOLDERS]
    for prefix in prefixes:
        service.store.delete_prefix(prefix)


def assert_no_orphans(service: Service) -> None:
    """No object that no row names, no row that names no object, no half-made set, no checkpoint, no lease."""
    garbage = find_garbage(service.sessions, service.store, min_age=timedelta(0))
    # A job's log is stored while the job ends, perhaps after `forget` has deleted the job of an earlier test.
    assert [found for found in garbage if found.kind != LOGS] == []
    stored = {listed.key for folder in FOLDERS.values() for listed in service.store.entries(folder)}
    assert stored == _named_objects(service)
    assert rows_of(service, "SELECT id FROM activation_set WHERE manifest_sha256 IS NULL") == []
    unfinished = "state IN ('waiting', 'queued', 'running') OR checkpoint IS NOT NULL OR lease_expires_at IS NOT NULL"
    assert rows_of(service, f"SELECT id, state FROM job WHERE {unfinished}") == []
    partitions = rows_of(service, "SELECT count(*) AS n FROM pg_inherits WHERE inhparent = 'node_score'::regclass")
    assert partitions == rows_of(service, "SELECT count(*) AS n FROM analysis")


def _named_objects(service: Service) -> set[str]:
    with transaction(service.sessions) as session:
        sets = session.execute(select(ActivationSet.key, ActivationSet.manifest_sha256)).all()
        saes = session.execute(select(Sae.key, Sae.weights_sha256)).all()
        analyses = session.execute(select(Analysis.key, Analysis.activations_sha256, Analysis.class_sums_sha256)).all()
        maps = session.execute(select(MapSet.key, MapSet.maps_sha256)).all()
        named = set(session.scalars(select(ActivationShard.object_key)))
    named |= {manifest_key(key, sha256) for key, sha256 in sets}
    named |= {weights_key(key, sha256) for key, sha256 in saes}
    named |= {maps_key(key, sha256) for key, sha256 in maps}
    for key, latents, class_sums in analyses:
        named |= {latents_key(key, latents), class_sums_key(key, class_sums)}
    return named
