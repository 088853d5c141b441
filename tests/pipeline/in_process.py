"""Jobs run in the test's own process, by the very calls that a worker makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tests.small import bare_scoring, small_request

from hsae.catalog import LIVE_STATES, transaction
from hsae.catalog.queries.conditions import Row
from hsae.catalog.queries.jobs import list_jobs
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.heartbeat import Heartbeat
from hsae.pipeline.stages.context import StageContext
from hsae.sae.config import SaeConfig
from hsae.store.objects import ObjectStore, StoredObject

TINY_SAE = SaeConfig(kind="topk", k=4, expansion=2, n_steps=30)


def plan_small(service, dataset: str | None = "small", **changes: Any) -> Plan:
    """Enter the small request: one tiny SAE per layer, and no other layer's activations; notifies nobody."""
    given = {"saes": (TINY_SAE,), "scoring": bare_scoring(), **changes}
    return submit(small_request(dataset, **given), service.settings, service.sessions)


def run_jobs(service, plan: Plan, *kinds: str) -> list[str]:
    """Run a plan's jobs (of some kinds, or all) in their order; says what became of each."""
    return [run_job(job.id, service.settings, "test") for job in plan.jobs if not kinds or job.kind in kinds]


def run_study(service, study_id: int, **settings_values: object) -> list[Row]:
    """Run a study's queued jobs, and those that they let go, until none is left; returns all of its jobs.

    `settings_values` differ from the service's settings, as those of a worker may.
    """
    settings = service.settings.model_copy(update=settings_values)
    while True:
        with transaction(service.sessions) as session:
            rows = list_jobs(session, study_id=study_id)
        queued = [row["id"] for row in rows if row["state"] == "queued" and row["pause_seconds"] is None]
        if not queued:
            assert not any(row["state"] in LIVE_STATES for row in rows), rows
            return rows
        for number in queued:
            run_job(number, settings, "test")


def job_id(plan: Plan, kind: str) -> int:
    """The plan's one job of a kind."""
    (found,) = [job.id for job in plan.jobs if job.kind == kind]
    return found


class CountingStore(ObjectStore):
    """The same store, which remembers what was put into it."""

    @classmethod
    def of(cls, service) -> "CountingStore":
        store = cls.from_settings(service.settings)
        store.keys_put = []
        return store

    keys_put: list[str]

    def put(
        self, key: str, data: bytes | memoryview, *, content_type: str = "application/octet-stream"
    ) -> StoredObject:
        stored = super().put(key, data, content_type=content_type)
        self.keys_put.append(stored.key)
        return stored


class _StoppingContext(StageContext):
    """Its `progress` raises `OSError` once `stop_at` units are done."""

    stop_at: int | None = None

    def progress(self, done: int, total: int, unit: str, note: str | None = None) -> None:
        super().progress(done, total, unit, note)
        if self.stop_at is not None and done >= self.stop_at:
            raise OSError(f"stopped by the test at {done} of {total} {unit}")


@contextmanager
def attempt(service, number: int, *, store: ObjectStore | None = None, stop_at: int | None = None) -> Iterator[tuple]:
    """One attempt at a job: (request, context) for its stage. The job is queued again when it ends."""
    with transaction(service.sessions) as session:
        claimed = jobs.claim(session, number, "attempt", 60)
    assert claimed is not None, f"job {number} is not queued"
    with Heartbeat(service.sessions, claimed.lease, 60) as heartbeat:
        context = _StoppingContext(service.settings, store or service.store, torch.device("cpu"), claimed, heartbeat)
        context.stop_at = stop_at
        try:
            yield stage_of(claimed.kind).request.model_validate(claimed.request), context
        finally:
            with transaction(service.sessions) as session:
                jobs.retry_after_crash(session, claimed.lease, "the attempt is over", retry_seconds=0)
