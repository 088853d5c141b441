"""Four real workers share one extraction and survive the loss of one."""

import os
import signal

import pytest
from tests.small import register_small, submit_small, wait_until_done
from tests.waiting import rows_of, wait_for, writers_stopped

from hsae.extraction.config import ExtractionConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_RUNNING = "SELECT id, owner FROM job WHERE kind = 'part' AND state = 'running' ORDER BY id"
_MANIFESTS = "SELECT layer, key, manifest_sha256, n_rows FROM activation_set ORDER BY layer"


def submitted(service):
    register_small(service)
    return submit_small(service, layers=(1, 3), extraction=ExtractionConfig(shard_images=5, batch_size=5))


def test_the_manifests_are_those_of_one_worker_byte_for_byte(make_service):
    service = make_service(extraction_part_images=60)
    plan = submitted(service)
    parts = [job.id for job in plan.jobs if job.kind == "part"]
    assert len(parts) == 4
    workers = [service.start_worker() for _ in parts]
    with writers_stopped(service, "activation_shard"):  # every worker is kept at its first shard
        wait_for(lambda: len(rows_of(service, _RUNNING)) == len(parts), 300, service.logs)
        owners = {row["id"]: row["owner"] for row in rows_of(service, _RUNNING)}
        assert len(set(owners.values())) == len(workers)
        os.killpg(workers[0].pid, signal.SIGKILL)
        workers[0].wait()
    jobs = wait_until_done(service, plan.study_id)  # the lease of the dead one runs out
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    attempts = {job["id"]: job["attempt"] for job in jobs if job["kind"] == "part"}
    assert sorted(attempts.values()) == [1, 1, 1, 2]
    shared = rows_of(service, _MANIFESTS)
    service.close()

    alone = make_service(extraction_part_images=0)
    whole = submitted(alone)
    assert "part" not in {job.kind for job in whole.jobs}
    alone.start_worker()
    wait_until_done(alone, whole.study_id)
    assert shared == rows_of(alone, _MANIFESTS)
