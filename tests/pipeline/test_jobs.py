"""Leases: one holder at a time, the latest fence writes, what is lost is found again."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text, update
from tests.waiting import rows_of, wait_for

from hsae.catalog import Job, JobDependency, JobEvent, bound_idling, clear_errors, transaction
from hsae.errors import JobCancelledError, LeaseLostError, ServiceError
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.heartbeat import Heartbeat
from hsae.pipeline.queue.notifier import Notification, Notifier
from hsae.pipeline.queue.reconcile import reconcile, repair_queue


def _job(service, key: str, *, state: str = "queued", needs: tuple[int, ...] = (), max_attempts: int = 3) -> int:
    with transaction(service.sessions) as session:
        job = Job(key=key, kind="train", queue="gpu", title=key, request={}, state=state, max_attempts=max_attempts)
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
    # The database may just have been started, and no holder needs time to renew.
    with transaction(service.sessions) as session:
        return [
            notification.job_id
            for notification in repair_queue(session, "reconciler", service.settings, grace_seconds=0).ready
        ]


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


def test_a_crash_backs_off_and_nobody_may_start_it_early(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        assert jobs.retry_after_crash(session, lease, "it broke", retry_seconds=60)
    assert _claim(service, job_id) is None
    assert _reconcile(service) == []
    with transaction(service.sessions) as session:
        pause = session.execute(text("SELECT extract(epoch FROM not_before - now()) FROM job")).scalar_one()
        assert 55 < pause <= 60
        session.execute(update(Job).values(not_before=text("now()")))
    assert _reconcile(service) == [job_id]
    assert _claim(service, job_id).attempt == 2


def test_pauses_double_up_to_five_minutes(service):
    job_id = _job(service, "one", max_attempts=100)
    pauses = []
    for _ in range(7):
        lease = _claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            jobs.retry_after_crash(session, lease, "it broke", retry_seconds=10)
            session.flush()
            pauses.append(session.execute(text("SELECT extract(epoch FROM not_before - now()) FROM job")).scalar_one())
            session.execute(update(Job).values(not_before=None))
    for pause, expected in zip(pauses, [10, 20, 40, 80, 160, 300, 300], strict=True):
        assert 0 <= pause - expected < 5  # counted from the start of the transaction


def test_outages_cost_no_attempt_until_there_are_too_many(service):
    job_id = _job(service, "one", max_attempts=1)
    for n in range(1, 4):
        claimed = _claim(service, job_id)
        assert claimed.attempt == 1
        with transaction(service.sessions) as session:
            jobs.hold(session, claimed.lease)
            again = jobs.retry_after_outage(session, claimed.lease, "no S3 server", retry_seconds=0, max_outages=2)
        assert again is (n < 3)
    row = _row(service, job_id)
    assert (row.state, row.error, row.outages) == ("failed", "no S3 server", 2)


def test_a_job_that_is_handed_back_has_lost_nothing(service):
    job_id = _job(service, "one", max_attempts=1)
    for _ in range(3):
        claimed = _claim(service, job_id, "host:1:abc:77")
        with transaction(service.sessions) as session:
            assert jobs.held_by(session, "host:1:abc:") == [claimed.lease]
            assert jobs.held_by(session, "host:1:ab:") == []
            jobs.hand_back(session, claimed.lease, "stopping")
        assert _reconcile(service) == [job_id]
    row = _row(service, job_id)
    assert (row.state, row.attempt, row.error, row.owner) == ("queued", 0, None, None)


def test_no_lease_expires_right_after_the_database_was_started(service):
    job_id = _job(service, "one")
    _claim(service, job_id)
    _expire(service, job_id)
    patient = service.settings.model_copy(update={"lease_seconds": 10**9.0})
    with transaction(service.sessions) as session:
        assert repair_queue(session, "reconciler", patient).ready == ()
    assert _reconcile(service) == [job_id]


def test_a_job_that_waits_for_one_that_has_failed_does_not_wait_for_ever(service):
    first = _job(service, "first", state="failed")
    waiting = _job(service, "waiting", state="waiting", needs=(first,))
    last = _job(service, "last", state="waiting", needs=(waiting,))
    assert _reconcile(service) == []
    assert _row(service, waiting).state == _row(service, last).state == "failed"


def test_a_process_that_is_suspended_while_it_repairs_or_renews_keeps_nobody_waiting(service):
    """Its transaction stays open, with the lock that lets one process at a time fix, and with the job's row."""
    running, ready = _job(service, "a"), _job(service, "b")
    impatient = service.settings.model_copy(update={"lease_seconds": 6})  # so long may they idle
    assert _claim(service, running) is not None
    sleepers = [service.sessions() for _ in range(2)]
    assert repair_queue(sleepers[0], "sleeper", impatient).ready != ()
    bound_idling(sleepers[1], 6)
    sleepers[1].execute(select(Job).where(Job.id == running).with_for_update()).one()
    with transaction(service.sessions) as session:
        assert repair_queue(session, "other", impatient).ready == ()
    idle = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    assert len(rows_of(service, idle)) == 2
    wait_for(lambda: rows_of(service, idle) == [])
    _expire(service, running)
    with transaction(service.sessions) as session:
        assert [notification.job_id for notification in repair_queue(session, "other", impatient).ready] == [
            running,
            ready,
        ]
    for sleeper in sleepers:
        with pytest.raises(ServiceError, match="lost|idle"), clear_errors():
            sleeper.execute(text("SELECT 1"))
        sleeper.close()


def test_expired_leases_use_up_attempts(service):
    job_id = _job(service, "one", max_attempts=2)
    for _ in range(2):
        assert _claim(service, job_id) is not None
        _expire(service, job_id)
        notified = _reconcile(service)
    assert notified == []
    row = _row(service, job_id)
    assert row.state == "failed"
    assert "stopped answering" in row.error


def test_a_lost_message_is_sent_again(service):
    never_notified, lost, recent = (_job(service, key) for key in ("never notified", "lost", "recent"))
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == lost).values(notified_at=text("now() - interval '2 minutes'")))
        session.execute(update(Job).where(Job.id == recent).values(notified_at=text("now()")))
    Notifier(service.settings).notify([Notification(recent, "gpu")])
    # The broker holds one message for two jobs that a message was sent for: one is lost.
    assert reconcile(service.settings, "reconciler") == (never_notified, lost)
    # Now all have a message again, and waiting behind others is not being lost.
    assert Notifier(service.settings).n_messages("gpu") == 3
    assert reconcile(service.settings, "reconciler") == ()


def test_a_lost_message_is_sent_again_behind_others_too(service):
    waiting, lost = _job(service, "waiting"), _job(service, "lost")
    notifier = Notifier(service.settings)
    notifier.notify([Notification(waiting, "gpu")])
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(notified_at=text("now() - interval '2 minutes'")))
    assert lost in reconcile(service.settings, "reconciler")
    assert notifier.n_messages("gpu") >= 2
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


def _wait_for_renewals(service, job_id: int, n: int) -> None:
    """Wait until the lease's end has moved so many times."""
    for _ in range(n):
        before = _row(service, job_id).lease_expires_at
        wait_for(lambda before=before: _row(service, job_id).lease_expires_at > before)


def test_heartbeat_keeps_the_lease_and_notices_its_loss(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
    with Heartbeat(service.sessions, lease, 60) as heartbeat:
        heartbeat.progress(1, 10, "steps")
        _wait_for_renewals(service, job_id, 2)
        heartbeat.check()
        assert _reconcile(service) == []
        assert _row(service, job_id).progress_done == 1
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(fence=Job.fence + 1))
        with pytest.raises(LeaseLostError):
            wait_for(heartbeat.check)


def test_heartbeat_survives_a_busy_interpreter(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
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
        assert _reconcile(service) == []


def test_the_work_waits_while_nobody_can_say_whose_it_is(service):
    """A lease that could not be renewed in time is looked at again before anything more is done."""
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
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
    job_id = _job(service, "one")
    lease = _claim(service, job_id).lease
    stuck = threading.Event()
    with Heartbeat(service.sessions, lease, 60, on_stuck=stuck.set):
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
        assert stuck.wait(120)


def test_heartbeat_notices_a_cancelled_job(service):
    job_id = _job(service, "one")
    lease = _claim(service, job_id, lease_seconds=0.6).lease
    with Heartbeat(service.sessions, lease, 0.6) as heartbeat:
        with transaction(service.sessions) as session:
            session.execute(update(Job).where(Job.id == job_id).values(state="cancelled"))
        with pytest.raises(JobCancelledError):
            wait_for(heartbeat.check)
