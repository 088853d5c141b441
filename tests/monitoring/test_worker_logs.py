"""What a real worker logs, and what it keeps of each job."""

import json
from dataclasses import dataclass

import pytest
from tests.conftest import Service
from tests.pipeline.in_process import TINY_SAE
from tests.small import bare_scoring, register_small, submit_small, wait_until_done

from hsae.catalog.queries.conditions import Row
from hsae.pipeline.execution.job_log import read_job_log

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Finished:
    """A study that a worker with a JSON log has finished."""

    service: Service
    jobs: list[Row]
    lines: list[str]


@pytest.fixture(scope="module")
def finished(make_service) -> Finished:
    service = make_service()
    register_small(service, n_classes=6)
    plan = submit_small(service, saes=(TINY_SAE,), scoring=bare_scoring())
    service.start_worker(HSAE_LOG_FORMAT="json")
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    service.stop_workers()
    return Finished(service, jobs, service.logs().splitlines())


def test_a_worker_logs_json_lines_with_job_ids(finished):
    # Before its log is set up, Celery warns whoever runs it as root.
    first = next(i for i, line in enumerate(finished.lines) if line.startswith("{"))
    records = [json.loads(line) for line in finished.lines[first:]]
    assert all({"time", "level", "logger", "message"} <= record.keys() for record in records)
    assert {record["job_id"] for record in records if "job_id" in record} == {job["id"] for job in finished.jobs}
    assert not any("exception" in record for record in records), records


def test_every_job_keeps_its_log(finished):
    jobs = sorted(finished.jobs, key=lambda job: job["finished_at"])
    for job in jobs[:-1]:  # the last one's log may be on its way yet
        records = read_job_log(finished.service.store, job["id"])
        assert records[0]["message"].startswith(job["title"])
        assert {record["job_id"] for record in records} == {job["id"]}
        assert f"job {job['id']}: finished" in records[-1]["message"]
        assert any(f"job {job['id']}: finished" in line for line in finished.lines)
