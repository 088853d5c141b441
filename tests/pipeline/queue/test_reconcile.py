"""What is lost is found again: leases, messages and releases."""

import pytest
from sqlalchemy import select, text, update
from tests.pipeline.queue.leases import claim, enter_job, expire, job_row, reconciled
from tests.waiting import rows_of, wait_for

from hsae.catalog import Job, bound_idling, clear_errors, transaction
from hsae.errors import ServiceError
from hsae.pipeline.queue.notifier import Notification, Notifier
from hsae.pipeline.queue.reconcile import reconcile, repair_queue


def test_no_lease_expires_right_after_the_database_was_started(service):
    job_id = enter_job(service, "one")
    claim(service, job_id)
    expire(service, job_id)
    patient = service.settings.model_copy(update={"lease_seconds": 10**9.0})
    with transaction(service.sessions) as session:
        assert repair_queue(session, "reconciler", patient).ready == ()
    assert reconciled(service) == [job_id]


def test_a_job_that_waits_for_one_that_has_failed_does_not_wait_for_ever(service):
    first = enter_job(service, "first", state="failed")
    waiting = enter_job(service, "waiting", state="waiting", needs=(first,))
    last = enter_job(service, "last", state="waiting", needs=(waiting,))
    assert reconciled(service) == []
    assert job_row(service, waiting).state == job_row(service, last).state == "failed"


def test_a_process_that_is_suspended_while_it_repairs_or_renews_keeps_nobody_waiting(service):
    """Its transaction stays open, with the lock that lets one process at a time fix, and with the job's row."""
    running, ready = enter_job(service, "a"), enter_job(service, "b")
    impatient = service.settings.model_copy(update={"lease_seconds": 6})  # so long may they idle
    assert claim(service, running) is not None
    sleepers = [service.sessions() for _ in range(2)]
    assert repair_queue(sleepers[0], "sleeper", impatient).ready != ()
    bound_idling(sleepers[1], 6)
    sleepers[1].execute(select(Job).where(Job.id == running).with_for_update()).one()
    with transaction(service.sessions) as session:
        assert repair_queue(session, "other", impatient).ready == ()
    idle = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
    assert len(rows_of(service, idle)) == 2
    wait_for(lambda: rows_of(service, idle) == [])
    expire(service, running)
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
    job_id = enter_job(service, "one", max_attempts=2)
    for _ in range(2):
        assert claim(service, job_id) is not None
        expire(service, job_id)
        notified = reconciled(service)
    assert notified == []
    row = job_row(service, job_id)
    assert row.state == "failed"
    assert "stopped answering" in row.error


def test_a_lost_message_is_sent_again(service):
    never_notified, lost, recent = (enter_job(service, key) for key in ("never notified", "lost", "recent"))
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
    waiting, lost = enter_job(service, "waiting"), enter_job(service, "lost")
    notifier = Notifier(service.settings)
    notifier.notify([Notification(waiting, "gpu")])
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(notified_at=text("now() - interval '2 minutes'")))
    assert lost in reconcile(service.settings, "reconciler")
    assert notifier.n_messages("gpu") >= 2
    assert reconcile(service.settings, "reconciler") == ()


def test_reconciling_releases_a_waiting_job_whose_release_was_missed(service):
    first = enter_job(service, "first", state="succeeded")
    waiting = enter_job(service, "waiting", state="waiting", needs=(first,))
    assert reconciled(service) == [waiting]
