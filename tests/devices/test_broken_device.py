"""A worker whose device broke in a job leaves this job to others; another worker does it."""

import os
from textwrap import dedent

import pytest
from sqlalchemy import select
from tests.pipeline.in_process import job_id, plan_small
from tests.small import register_small
from tests.waiting import wait_for

from hsae.catalog import Job, JobEvent, transaction
from hsae.pipeline.queue import broken_devices, jobs
from hsae.pipeline.queue.notifier import Notifier

# Read by the worker's interpreter when it starts. In a child it breaks the device in the middle of an extraction.
BREAKS = dedent(
    """
    from celery.signals import worker_process_init


    @worker_process_init.connect(weak=False)
    def break_the_device(**_):
        import torch

        from hsae.pipeline.stages.activations import shard_pass

        def broken(*_, **__):
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

        shard_pass.extract_shard = broken
    """
)


@pytest.fixture
def planned(make_service):
    """A service with an extraction that nobody was notified of, and its number."""
    service = make_service()
    register_small(service, n_classes=2)
    return service, job_id(plan_small(service, layers=(1,)), "extract")


def test_the_same_worker_does_not_claim_it_again(planned):
    service, number = planned
    with transaction(service.sessions) as session:
        claimed = jobs.claim(session, number, "host:1:abc:100", 60)
        detail = broken_devices.event_detail(claimed.lease.owner)
        assert jobs.retry_after_crash(session, claimed.lease, "CUDA error", 0.0, detail)
    with transaction(service.sessions) as session:
        assert jobs.claim(session, number, "host:1:abc:200", 60) is None  # the worker's next process
        assert broken_devices.leave_to_others(session, number, "host:1:abc:200")
        assert not broken_devices.leave_to_others(session, number, "host:2:def:300")
        assert jobs.claim(session, number, "host:2:def:300", 60) is not None
        assert not broken_devices.leave_to_others(session, number, "host:1:abc:200")


def test_a_crash_for_another_reason_is_tried_by_anybody(planned):
    service, number = planned
    with transaction(service.sessions) as session:
        claimed = jobs.claim(session, number, "host:1:abc:100", 60)
        assert jobs.retry_after_crash(session, claimed.lease, "a bug", 0.0)
    with transaction(service.sessions) as session:
        assert jobs.claim(session, number, "host:1:abc:100", 60) is not None


@pytest.mark.slow
def test_a_real_worker_leaves_it_to_another_one(planned, tmp_path):
    service, number = planned
    (tmp_path / "sitecustomize.py").write_text(BREAKS)
    quick = {"HSAE_RETRY_SECONDS": "0", "HSAE_RECONCILE_SECONDS": "0.5"}
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    service.start_worker(PYTHONPATH=path, **quick)
    with transaction(service.sessions) as session:
        notifications = jobs.notifications_for(session, [number])
    Notifier(service.settings).notify(notifications)

    wait_for(lambda: f"job {number} is left to other workers" in service.logs(), 500, service.logs)
    with transaction(service.sessions) as session:
        job = session.get_one(Job, number)
        assert (job.state, job.attempt) == ("queued", 1)

    service.start_worker(**quick)

    def is_done() -> bool:
        with transaction(service.sessions) as session:
            return session.get_one(Job, number).state == "succeeded"

    wait_for(is_done, 500, service.logs)
    with transaction(service.sessions) as session:
        claims = session.scalars(select(JobEvent.who).where(JobEvent.job_id == number, JobEvent.reason == "claimed"))
        assert len({who.rpartition(":")[0] for who in claims}) == 2
