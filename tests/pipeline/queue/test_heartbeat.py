"""The heartbeat keeps a lease, and stops the work of one that is lost."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text, update
from tests.pipeline.queue.leases import claim, enter_job, job_row, reconciled
from tests.waiting import wait_for

from hsae.catalog import Job, transaction
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.heartbeat import Heartbeat


def _wait_for_renewals(service, job_id: int, n: int) -> None:
    """Wait until the lease's end has moved so many times."""
    for _ in range(n):
        before = job_row(service, job_id).lease_expires_at
        wait_for(lambda before=before: job_row(service, job_id).lease_expires_at > before)  # type: ignore[misc]


def test_heartbeat_keeps_the_lease_and_notices_its_loss(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    with Heartbeat(service.sessions, lease, 60) as heartbeat:
        heartbeat.progress(1, 10, "steps")
        _wait_for_renewals(service, job_id, 2)
        heartbeat.check()
        assert reconciled(service) == []
        assert job_row(service, job_id).progress_done == 1
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(fence=Job.fence + 1))
        with pytest.raises(LeaseLostError):
            wait_for(heartbeat.check)


def test_heartbeat_survives_a_busy_interpreter(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    renewed = threading.Event()

    def spin() -> None:
        while not renewed.is_set():
            pass

    with Heartbeat(service.sessions, lease, 60) as heartbeat, ThreadPoolExecutor(4) as pool:
        spinning = [pool.submit(spin) for _ in range(4)]
        try:
            _wait_for_renewals(service, job_id, 3)
        finally:
            renewed.set()
        assert [each.result() for each in spinning] == [None] * 4
        heartbeat.check()
        assert reconciled(service) == []


def test_the_work_waits_while_nobody_can_say_whose_it_is(service):
    """A lease that could not be renewed in time is looked at again before anything more is done."""
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    heartbeat = Heartbeat(service.sessions, lease, 60)
    heartbeat._expires = time.monotonic() - 1  # as in a process that was suspended for longer than its lease
    with ThreadPoolExecutor(1) as pool:
        checked = pool.submit(heartbeat.check)
        with pytest.raises(TimeoutError):
            checked.result(timeout=0.5)
        with heartbeat:
            checked.result(timeout=120)
            with transaction(service.sessions) as session:
                jobs.hold(session, lease)


def test_heartbeat_calls_for_help_when_the_work_does_not_stop(service, monkeypatch):
    monkeypatch.setattr("hsae.pipeline.queue.heartbeat._STUCK_SECONDS", 0.3)
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    stuck = threading.Event()
    with Heartbeat(service.sessions, lease, 60, on_stuck=stuck.set):
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
        assert stuck.wait(120)


def test_heartbeat_notices_a_cancelled_job(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id, lease_seconds=0.6).lease
    with Heartbeat(service.sessions, lease, 0.6) as heartbeat:
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
        with pytest.raises(JobCancelledError):
            wait_for(heartbeat.check)


def test_a_process_that_is_suspended_while_it_holds_the_row_does_not_keep_it_for_long(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    limit = text("SELECT setting::int / 1000 FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'")
    for lease_seconds, expected in ((5, 120), (200, 200)):
        with Heartbeat(service.sessions, lease, lease_seconds).transaction() as session:
            assert session.execute(limit).scalar_one() == expected
