"""SIGKILL of a worker in the middle of each stage: another finishes the job, with the very same bits."""

import os
import signal

import psutil
from sqlalchemy import text
from tests.small import all_results, register_small, submit_small, wait_until_done
from tests.waiting import let_leases_expire, wait_until_running, wait_until_under_way

from hsae.catalog import transaction


def test_one_worker_after_the_other_is_killed_and_the_last_finishes_with_the_same_bits(make_service, undisturbed):
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=0.2)
    register_small(service)
    plan = submit_small(service)
    killed = set()
    for kind in ("extract", "train", "analyze"):
        worker = service.start_worker()
        job_id = wait_until_under_way(service, kind)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
        with transaction(service.sessions) as session:
            assert session.execute(text("SELECT state FROM job WHERE id = :id"), {"id": job_id}).scalar() == "running"
        killed.add(job_id)
        let_leases_expire(service)
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert {job["id"]: job["attempt"] for job in jobs} == {job["id"]: 1 + (job["id"] in killed) for job in jobs}
    assert all_results(service) == expected


def test_children_die_with_their_worker(make_service):
    service = make_service()
    register_small(service)
    submit_small(service)
    worker = service.start_worker()
    wait_until_running(service, "extract")
    children = psutil.Process(worker.pid).children(recursive=True)
    assert children
    worker.kill()  # the parent alone, not its process group
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []
