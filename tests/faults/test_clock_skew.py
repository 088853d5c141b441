"""Workers whose clocks are two hours wrong: leases are the database's matter, and the S3 server refuses them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request
from tests.waiting import rows_of, wait_for

from hsae.catalog import Job, transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.queue import jobs

_LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
pytestmark = pytest.mark.skipif(_LIBRARY is None, reason="needs libfaketime (Debian's package faketime)")

# Under libfaketime 0.9.10 Python's own sleep fails (EINVAL): whatever waits would end as a crash of the worker's job.
_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
_LEASE_SECONDS = 20.0  # outlasts a pause of a busy machine; no lease expires until Postgres has run for as long


@pytest.fixture
def service(make_service):
    """Without a worker; its jobs do not give up."""
    fresh = make_service(lease_seconds=_LEASE_SECONDS, max_attempts=10_000, max_outages=10_000)
    register_small(fresh, n_classes=3)
    return fresh


@pytest.fixture
def skewed_workers(service) -> Iterator[set[int]]:
    """Process ids of a worker two hours ahead and of one two hours behind."""
    site = service.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SLEEP)
    workers = [
        service.start_worker(
            LD_PRELOAD=str(_LIBRARY),
            FAKETIME=shift,
            FAKETIME_DONT_FAKE_MONOTONIC="1",
            FAKETIME_DONT_RESET="1",
            PYTHONPATH=str(site),
        )
        for shift in ("+2h", "-2h")
    ]
    yield {worker.pid for worker in workers}
    service.stop_workers()


def _submit(service, layer: int):
    request = small_request(
        layers=(layer,),
        saes=(TINY_SAE,),
        extraction=ExtractionConfig(shard_images=8, batch_size=8),
        scoring=bare_scoring(),
    )
    return submit(request, service.settings, service.sessions)


def _claim(service, number: int, lease_seconds: float) -> jobs.ClaimedJob | None:
    with transaction(service.sessions) as session:
        return jobs.claim(session, number, "a worker with the right time", lease_seconds)


_PIDS = """
SELECT DISTINCT CAST(substring(who FROM ':([0-9]+):') AS int) AS pid FROM job_event
WHERE job_id = :id AND reason = :reason AND message LIKE :message
"""
# An outage takes back the attempt that its claim had counted.
_COST = """
SELECT attempt - (SELECT count(*) FROM job_event e WHERE e.job_id = j.id AND e.reason = 'lease_expired') AS cost
FROM job j WHERE id = :id AND state = 'queued'
"""


def test_no_lease_is_stolen_no_job_lost_and_no_attempt_taken(service, skewed_workers):
    kept, free = _submit(service, 1), _submit(service, 2)
    held = _claim(service, job_id(kept, "extract"), 3600)  # half the clocks' error
    assert held is not None
    disputed = job_id(free, "extract")

    def both_have(reason: str, message: str) -> bool:
        pids = {row["pid"] for row in rows_of(service, _PIDS, id=disputed, reason=reason, message=message)}
        return pids == skewed_workers

    def both_have_met_the_job() -> bool:
        with transaction(service.sessions) as session:  # it does not back off
            session.execute(update(Job).where(Job.id == disputed, Job.state == "queued").values(not_before=None))
        if both_have("lease_expired", "%stopped answering"):
            return both_have("outage", "%the clocks of the two machines differ; set them right")
        # Whoever has it dies at once, again and again: the first reconciler to look takes it over and sends a message.
        _claim(service, disputed, 0)
        return False

    wait_for(both_have_met_the_job, message=service.logs)
    queued: list[dict[str, int]] = []
    wait_for(lambda: queued.extend(rows_of(service, _COST, id=disputed)) or queued, message=service.logs)
    assert queued[0]["cost"] == 0, service.logs()
    service.stop_workers()

    # Both reconcilers have looked at the other lease as well, by the wrong clocks.
    (row,) = rows_of(service, "SELECT state, fence, owner FROM job WHERE id = :id", id=held.lease.job_id)
    assert (row["state"], row["fence"], row["owner"]) == ("running", held.lease.fence, held.lease.owner)
    with transaction(service.sessions) as session:
        jobs.hold(session, held.lease)
        jobs.hand_back(session, held.lease, "handed back")
    assert run_jobs(service, kept) == ["succeeded"] * len(kept.jobs)
    attempts = rows_of(service, "SELECT attempt FROM job j JOIN study_job s ON s.job_id = j.id WHERE study_id = :study",
                       study=kept.study_id)  # fmt: skip
    assert [each["attempt"] for each in attempts] == [1] * len(kept.jobs)
    assert rows_of(service, "SELECT id FROM job_event WHERE reason IN ('retried', 'failed')") == [], service.logs()
