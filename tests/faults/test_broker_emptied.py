"""The broker loses its messages, doubles them, or gives them to two workers: every job runs once."""

import pytest
from redis import Redis
from sqlalchemy import text
from tests.small import mapped_request
from tests.waiting import events_of, rows_of

from hsae.catalog import transaction
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.queue.jobs import notifications_for
from hsae.pipeline.queue.notifier import Notifier


def test_emptied_while_one_job_runs_and_others_are_queued(standing):
    service = standing.service
    plan = standing.submit_from("train")
    standing.wait_for_middle("train")
    assert rows_of(service, "SELECT 1 FROM job WHERE kind = 'train' AND state = 'queued'")
    with Redis.from_url(service.settings.broker_url.get_secret_value()) as broker:
        assert broker.keys("gpu*"), "the other training's message is in the queue"
        broker.flushall()
    with transaction(service.sessions) as session:  # a minute later, nobody has sent a message again
        session.execute(text("UPDATE job SET notified_at = notified_at - interval '1 minute' WHERE state = 'queued'"))
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, service.logs()


@pytest.fixture
def second_worker(standing):
    worker = standing.service.start_worker()
    yield worker
    worker.kill()
    worker.wait()


def test_many_messages_of_one_job_and_two_workers(standing, second_worker):
    """Both workers take messages of the same job in the same instant, time and again."""
    service = standing.service
    standing.forget("train")
    plan = submit(mapped_request(), service.settings, service.sessions)
    with transaction(service.sessions) as session:
        notifications = notifications_for(session, [job.id for job in plan.jobs])
    Notifier(service.settings).notify(list(notifications) * 20)
    jobs = standing.check_finished(plan)
    for job in jobs:
        claims = [reason for reason, _ in events_of(service, job["id"]) if reason == "claimed"]
        assert (job["attempt"], len(claims), job["outages"]) == (1, 1, 0), service.logs()
