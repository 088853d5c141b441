"""Leases: one holder at a time, the latest fence writes, what is lost is found again."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text, update

from hsae.catalog import Job, JobDependency, JobEvent, transaction
from hsae.errors import JobCancelledError, LeaseLostError
from hsae.pipeline import jobs
from hsae.pipeline.doorbell import Doorbell
from hsae.pipeline.heartbeat import Heartbeat
from hsae.pipeline.reconcile import mend, reconcile


def _job(service, key: str, *, state: str = "queued", needs: tuple[int, ...] = (), max_attempts: int = 3) -> int:
    with transaction(service.sessions) as session:
        job = Job(key=key, kind="train", title=key, request={}, state=state, max_attempts=max_attempts)
        session.add(job)
        session.flush()
        session.add_all(JobDependency(job_id=job.id, depends_on_id=needed) for needed in needs)
        return job.id


def _claim(service, job_id: int, owner: str = "a", lease_seconds: float = 60):
    with transaction(service.sessions) as session:
        return jobs.claim(session, job_id, owner, lease_seconds)


def _row(service, job_id: int) -> Job:
    with transaction(service.sessions) as session:
        return session.get_one(Job, job_id)


def _expire(service, job_id: int) -> None:
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_expires_at=text("now() - interval '1 s'")))


def _reconcile(service) -> list[int]:
    with transaction(service.sessions) as session:
        return [bell.job_id for bell in mend(session, "reconciler", service.settings).ready]


def test_of_many_claims_at_once_one_succeeds(service):
    job_id = _job(service, "one")
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: _claim(service, job_id, f"worker {n}"), range(16)))
    assert sum(claim is not None for claim in claims) == 1
    assert _row(service, job_id).attempt == 1


def test_a_stale_holder_can_write_nothing(service):
    job_id = _job(service, "one")
    stale = _claim(service, job_id, "stale").lease
    _expire(service, job_id)
    assert _reconcile(service) == [job_id]
    fresh = _claim(service, job_id, "fresh").lease
    assert fresh.fence == stale.fence + 1
    with pytest.raises(LeaseLostError), transaction(service.sessions) as session:
        jobs.hold(session, stale)
    with transaction(service.sessions) as session:
        assert jobs.renew(session, stale, 60, {}) == "running"
        assert jobs.renew(session, fresh, 60, {"progress_done": 3}) is None
        jobs.hold(session, fresh)
        jobs.succeed(session, fresh, {"n": 1})
    row = _row(service, job_id)
    assert (row.state, row.result, row.owner) == ("succeeded", {"n": 1}, "fresh")


def test_success_releases_what_waited_for_all_of_it(service):
    first, second = _job(service, "first"), _job(service, "second")
    both = _job(service, "both", state="waiting", needs=(first, second))
    for job_id, released in ((first, []), (second, [both])):
        lease = _claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            assert jobs.succeed(session, lease, {}) == released
    assert _row(service, both).state == "queued"


def test_a_failure_is_tried_again_until_attempts_are_used_up_and_fails_what_waits(service):
    job_id = _job(service, "one", max_attempts=2)
    waiting = _job(service, "two", state="waiting", needs=(job_id,))
    last = _job(service, "three", state="waiting", needs=(waiting,))
    for again in (True, False):
        lease = _claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            assert jobs.retry_after_crash(session, lease, "it broke", retry_seconds=0) is again
    assert (_row(service, job_id).state, _row(service, job_id).error) == ("failed", "it broke (attempt 2 of 2)")
    assert _row(service, waiting).error == f"needs job {job_id}, which failed"
    assert _row(service, last).state == "failed"


def test_a_mistake_is_not_tried_again(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        jobs.fail(session, lease, "bad input")
    assert _row(service, job_id).state == "failed"


def test_expired_leases_use_up_attempts(service):
    job_id = _job(service, "one", max_attempts=2)
    for _ in range(2):
        assert _claim(service, job_id) is not None
        _expire(service, job_id)
        rung = _reconcile(service)
    assert rung == []
    row = _row(service, job_id)
    assert row.state == "failed"
    assert "stopped answering" in row.error


def test_a_lost_message_is_sent_again(service):
    never_rung, lost, recent = (_job(service, key) for key in ("never rung", "lost", "recent"))
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == lost).values(notified_at=text("now() - interval '2 minutes'")))
        session.execute(update(Job).where(Job.id == recent).values(notified_at=text("now()")))
    # The broker is empty, so a message that was sent and has not been taken is lost.
    assert reconcile(service.settings, "reconciler") == (never_rung, lost)
    # Now both have a message again, and waiting behind others is not being lost.
    assert Doorbell(service.settings).n_messages("gpu") == 2
    assert reconcile(service.settings, "reconciler") == ()


def test_reconciling_releases_a_waiting_job_whose_release_was_missed(service):
    first = _job(service, "first", state="succeeded")
    waiting = _job(service, "waiting", state="waiting", needs=(first,))
    assert _reconcile(service) == [waiting]


def test_every_change_of_state_is_an_event(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
    _expire(service, job_id)
    _reconcile(service)
    lease = _claim(service, job_id, "b").lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        jobs.succeed(session, lease, {})
    with transaction(service.sessions) as session:
        states = session.scalars(select(JobEvent.state).where(JobEvent.job_id == job_id).order_by(JobEvent.id)).all()
    assert states == ["running", "queued", "running", "succeeded"]


def test_heartbeat_keeps_the_lease_and_notices_its_loss(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id, lease_seconds=0.6).lease
    with Heartbeat(service.sessions, lease, 0.6) as heartbeat:
        heartbeat.progress(1, 10, "steps")
        time.sleep(1.5)
        heartbeat.check()
        assert _reconcile(service) == []
        assert _row(service, job_id).progress_done == 1
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(fence=Job.fence + 1))
        time.sleep(1.0)
        with pytest.raises(LeaseLostError):
            heartbeat.check()


def test_heartbeat_notices_a_cancelled_job(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id, lease_seconds=0.6).lease
    with Heartbeat(service.sessions, lease, 0.6) as heartbeat:
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
        time.sleep(1.0)
        with pytest.raises(JobCancelledError):
            heartbeat.check()
