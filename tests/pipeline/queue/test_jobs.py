"""Leases: one holder at a time, and the latest fence writes."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text, update
from tests.pipeline.queue.leases import claim, enter_job, expire, job_row, reconciled

from hsae.catalog import Job, JobEvent, transaction
from hsae.errors import LeaseLostError
from hsae.pipeline.queue import jobs


def test_of_many_claims_at_once_one_succeeds(service):
    job_id = enter_job(service, "one")
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: claim(service, job_id, f"worker {n}"), range(16)))
    assert sum(claim is not None for claim in claims) == 1
    assert job_row(service, job_id).attempt == 1


def test_a_stale_holder_can_write_nothing(service):
    job_id = enter_job(service, "one")
    stale = claim(service, job_id, "stale").lease
    expire(service, job_id)
    assert reconciled(service) == [job_id]
    fresh = claim(service, job_id, "fresh").lease
    assert fresh.fence == stale.fence + 1
    with pytest.raises(LeaseLostError), transaction(service.sessions) as session:
        jobs.hold(session, stale)
    with transaction(service.sessions) as session:
        assert jobs.renew(session, stale, 60, {}) == "running"
        assert jobs.renew(session, fresh, 60, {"progress_done": 3}) is None
        jobs.hold(session, fresh)
        jobs.succeed(session, fresh, {"n": 1})
    row = job_row(service, job_id)
    assert (row.state, row.result, row.owner) == ("succeeded", {"n": 1}, "fresh")


def test_success_releases_what_waited_for_all_of_it(service):
    first, second = enter_job(service, "first"), enter_job(service, "second")
    both = enter_job(service, "both", state="waiting", needs=(first, second))
    for job_id, released in ((first, []), (second, [both])):
        lease = claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            assert jobs.succeed(session, lease, {}) == released
    assert job_row(service, both).state == "queued"


def test_a_failure_is_tried_again_until_attempts_are_used_up_and_fails_what_waits(service):
    job_id = enter_job(service, "one", max_attempts=2)
    waiting = enter_job(service, "two", state="waiting", needs=(job_id,))
    last = enter_job(service, "three", state="waiting", needs=(waiting,))
    for again in (True, False):
        lease = claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            assert jobs.retry_after_crash(session, lease, "it broke", retry_seconds=0) is again
    assert (job_row(service, job_id).state, job_row(service, job_id).error) == ("failed", "it broke (attempt 2 of 2)")
    assert job_row(service, waiting).error == f"needs job {job_id}, which failed"
    assert job_row(service, last).state == "failed"


def test_a_mistake_is_not_tried_again(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        jobs.fail(session, lease, "bad input")
    assert job_row(service, job_id).state == "failed"


def test_a_crash_backs_off_and_nobody_may_start_it_early(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        assert jobs.retry_after_crash(session, lease, "it broke", retry_seconds=60)
    assert claim(service, job_id) is None
    assert reconciled(service) == []
    with transaction(service.sessions) as session:
        pause = session.execute(text("SELECT extract(epoch FROM not_before - now()) FROM job")).scalar_one()
        assert 55 < pause <= 60
        session.execute(update(Job).values(not_before=text("now()")))
    assert reconciled(service) == [job_id]
    assert claim(service, job_id).attempt == 2


def test_pauses_double_up_to_five_minutes(service):
    job_id = enter_job(service, "one", max_attempts=100)
    pauses = []
    for _ in range(7):
        lease = claim(service, job_id).lease
        with transaction(service.sessions) as session:
            jobs.hold(session, lease)
            jobs.retry_after_crash(session, lease, "it broke", retry_seconds=10)
            session.flush()
            pauses.append(session.execute(text("SELECT extract(epoch FROM not_before - now()) FROM job")).scalar_one())
            session.execute(update(Job).values(not_before=None))
    for pause, expected in zip(pauses, [10, 20, 40, 80, 160, 300, 300], strict=True):
        assert 0 <= pause - expected < 5  # counted from the start of the transaction


def test_outages_cost_no_attempt_until_there_are_too_many(service):
    job_id = enter_job(service, "one", max_attempts=1)
    for n in range(1, 4):
        claimed = claim(service, job_id)
        assert claimed.attempt == 1
        with transaction(service.sessions) as session:
            jobs.hold(session, claimed.lease)
            again = jobs.retry_after_outage(session, claimed.lease, "no S3 server", retry_seconds=0, max_outages=2)
        assert again is (n < 3)
    row = job_row(service, job_id)
    assert (row.state, row.error, row.outages) == ("failed", "no S3 server", 2)


def test_a_job_that_is_handed_back_has_lost_nothing(service):
    job_id = enter_job(service, "one", max_attempts=1)
    for _ in range(3):
        claimed = claim(service, job_id, "host:1:abc:77")
        with transaction(service.sessions) as session:
            assert jobs.held_by(session, "host:1:abc:") == [claimed.lease]
            assert jobs.held_by(session, "host:1:ab:") == []
            jobs.hand_back(session, claimed.lease, "stopping")
        assert reconciled(service) == [job_id]
    row = job_row(service, job_id)
    assert (row.state, row.attempt, row.error, row.owner) == ("queued", 0, None, None)


def test_every_change_of_state_is_an_event(service):
    job_id = enter_job(service, "one")
    lease = claim(service, job_id).lease
    expire(service, job_id)
    reconciled(service)
    lease = claim(service, job_id, "b").lease
    with transaction(service.sessions) as session:
        jobs.hold(session, lease)
        jobs.succeed(session, lease, {})
    with transaction(service.sessions) as session:
        states = session.scalars(select(JobEvent.state).where(JobEvent.job_id == job_id).order_by(JobEvent.id)).all()
    assert states == ["running", "queued", "running", "succeeded"]
