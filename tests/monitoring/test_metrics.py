"""The exporter, scraped over HTTP while real servers come, go and change."""

import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from tests.monitoring.conftest import sample
from tests.small import bare_scoring, register_small, submit_small, wait_until_done
from tests.waiting import wait_for

from hsae.catalog import connect, transaction
from hsae.catalog.server.migrate import upgrade
from hsae.embedded import Stack
from hsae.errors import UserError
from hsae.monitoring import MetricsServer
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.queue.notifier import Notification, Notifier
from hsae.settings import Settings
from hsae.store.objects import ObjectStore


def _insert_job(session, number: int, **columns: object) -> int:
    values = {
        "key": f"{number:064x}", "kind": "train", "title": f"job {number}", "request": "{}", "state": "queued",
        "queue": "gpu", "max_attempts": 3, **columns,
    }  # fmt: skip
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    return session.execute(text(f"INSERT INTO job ({names}) VALUES ({marks}) RETURNING id"), values).scalar_one()


_EVENT = text(
    "INSERT INTO job_event (job_id, reason, state, who, message, at) VALUES (:job, :reason, :state, 'test', 'why',"
    " now() - make_interval(secs => :age))"
)


def _insert_event(session, job: int, reason: str, state: str | None = None, age: float = 0) -> None:
    session.execute(_EVENT, {"job": job, "reason": reason, "state": state, "age": age})


@pytest.fixture
def metrics(service):
    """A running exporter of the service; its port."""
    with MetricsServer(service.settings, "127.0.0.1", 0) as server:
        yield server.port


def test_an_empty_service_exports_zeros(metrics, scrape):
    found = scrape(metrics)
    assert found[sample("hsae_jobs", kind="train", state="failed", queue="gpu")] == 0
    assert found[sample("hsae_job_events_total", reason="lease_expired", kind="analyze")] == 0
    assert found[sample("hsae_oldest_queued_seconds", queue="gpu")] == 0
    assert found[sample("hsae_up", part="database")] == found[sample("hsae_up", part="broker")] == 1


@pytest.mark.slow
def test_a_real_study(service, scrape):
    register_small(service, n_classes=20)
    service.start_worker()
    with MetricsServer(service.settings, "127.0.0.1", 0) as server:
        plan = submit_small(service, scoring=bare_scoring())
        jobs = wait_until_done(service, plan.study_id)
        assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
        wait_for(lambda: scrape(server.port).get(sample("hsae_workers", queue="gpu")), message=service.logs, every=0.5)
        found = scrape(server.port)
    for stage in (stage_of(job.kind) for job in plan.jobs):
        kind, queue = stage.kind, stage.queue
        n_jobs = sum(job["kind"] == kind for job in jobs)
        assert found[sample("hsae_jobs", kind=kind, state="succeeded", queue=queue)] == n_jobs
        assert found[sample("hsae_job_events_total", reason="succeeded", kind=kind)] == n_jobs
        assert found[sample("hsae_job_seconds_count", kind=kind)] == n_jobs
        assert found[sample("hsae_job_seconds_bucket", kind=kind, le="+Inf")] == n_jobs
        # A job that is done within a second may not have told its progress.
        n_units = sum(job["progress_total"] or 0 for job in jobs if job["kind"] == kind)
        assert found[sample("hsae_units_done_total", kind=kind, unit=stage.unit)] == n_units
    assert found[sample("hsae_units_done_total", kind="train", unit="vectors")] > 0
    seconds = sum(float(job["seconds"]) for job in jobs if job["kind"] == "train")
    assert found[sample("hsae_job_seconds_sum", kind="train")] == pytest.approx(seconds, rel=1e-3)
    assert found[sample("hsae_up", part="object_store")] == 1
    assert found[sample("hsae_queue_messages", queue="gpu")] == 0


def test_running_jobs_and_queues(service, metrics, scrape):
    with transaction(service.sessions) as session:
        for number in (1, 2):
            _insert_job(session, number, state="running", owner="box:17:abc", progress_unit="vectors",
                        progress_rate=1000.0 * number, gpu_memory_bytes=number * 2**30)  # fmt: skip
        old = _insert_job(session, 3)
        _insert_event(session, old, "submitted", "queued", age=5000)
        _insert_event(session, old, "retried", "queued", age=500)
        backing_off = _insert_job(session, 4, kind="analyze", queue="cpu")
        _insert_event(session, backing_off, "outage", "queued", age=500)
        session.execute(
            text("UPDATE job SET not_before = now() + interval '1 hour' WHERE id = :id"), {"id": backing_off}
        )
    Notifier(service.settings).notify(
        [Notification(old, "gpu", 0), Notification(old, "gpu", 9), Notification(backing_off, "cpu", 5)]
    )
    found = scrape(metrics)
    assert found[sample("hsae_stage_throughput", kind="train", unit="vectors")] == 3000
    assert found[sample("hsae_stage_throughput", kind="extract", unit="images")] == 0
    assert found[sample("hsae_gpu_memory_bytes", job="2", host="box")] == 2 * 2**30
    assert 500 <= found[sample("hsae_oldest_queued_seconds", queue="gpu")] < 600
    assert found[sample("hsae_oldest_queued_seconds", queue="cpu")] == 0
    assert found[sample("hsae_queue_messages", queue="gpu")] == 2
    assert found[sample("hsae_queue_messages", queue="cpu")] == 1


def test_counters_see_each_event_once_whenever_it_commits(service, metrics, scrape):
    expired = sample("hsae_job_events_total", reason="lease_expired", kind="train")
    with transaction(service.sessions) as session:
        job = _insert_job(session, 1)
        _insert_event(session, job, "lease_expired")
    assert [scrape(metrics)[expired] for _ in range(3)] == [1, 1, 1]
    late = service.sessions()
    _insert_event(late, job, "lease_expired")  # has an id, and does not commit yet
    with transaction(service.sessions) as session:
        for _ in range(5):
            _insert_event(session, job, "lease_expired")
    assert [scrape(metrics)[expired] for _ in range(3)] == [6, 6, 6]
    late.commit()
    late.close()
    assert [scrape(metrics)[expired] for _ in range(3)] == [7, 7, 7]
    with transaction(service.sessions) as session:
        _insert_event(session, job, "lease_expired")
    assert [scrape(metrics)[expired] for _ in range(3)] == [8, 8, 8]
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM job"))
    assert scrape(metrics)[expired] in (0, 8)  # a counter may begin anew, but not count backwards
    with MetricsServer(service.settings, "127.0.0.1", 0) as fresh:
        assert scrape(fresh.port)[expired] == 0


def test_servers_that_go_and_come_back(tmp_path, scrape, caplog):
    stack = Stack(tmp_path / "home")
    settings = Settings(home=tmp_path, **asdict(stack.start()))
    try:
        upgrade(connect(settings))
        ObjectStore.from_settings(settings).ensure_bucket()
        with MetricsServer(settings, "127.0.0.1", 0) as server, caplog.at_level(logging.INFO, "hsae.monitoring"):
            up = {part: sample("hsae_up", part=part) for part in ("database", "broker", "object_store")}
            assert scrape(server.port)[up["database"]] == 1
            stack.stop()
            for _ in range(2):
                found = scrape(server.port)
                assert found[up["database"]] == found[up["broker"]] == 0
                assert not any(name == "hsae_jobs" for name, _ in found)
            assert len([r for r in caplog.records if r.message.startswith("database: ")]) == 1
            stack.start()
            wait_for(lambda: all(scrape(server.port).get(part) == 1 for part in up.values()), every=0.5)
            assert [r.message for r in caplog.records if r.message == "database: answers again"]
    finally:
        stack.stop()


def test_a_database_that_is_not_migrated(make_service, scrape):
    service = make_service(migrate=False)
    with MetricsServer(service.settings, "127.0.0.1", 0) as server:
        found = scrape(server.port)
    assert found[sample("hsae_up", part="database")] == 0
    assert found[sample("hsae_up", part="broker")] == 1


def test_the_command_serves_until_it_is_told_to_end(service, scrape):
    process = subprocess.Popen(
        [sys.executable, "-c", "from hsae.cli.main import main; main()", "metrics", "--port", "0"],
        env={**os.environ, **service.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    port = int(line.removeprefix("Metrics: http://127.0.0.1:").removesuffix("/metrics\n"))
    assert scrape(port)[sample("hsae_up", part="database")] == 1
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert errors == ""


def test_a_port_that_is_taken(service):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port} .*choose another --port"):
            MetricsServer(service.settings, "127.0.0.1", port)


def test_a_wrong_password_is_a_database_that_is_down(service, scrape, caplog):
    url = service.settings.database_url.get_secret_value().replace("://hsae:", "://hsae:wrong")
    settings = service.settings.model_copy(update={"database_url": SecretStr(url)})
    with MetricsServer(settings, "127.0.0.1", 0) as server:
        assert scrape(server.port)[sample("hsae_up", part="database")] == 0
    assert "correct HSAE_DATABASE_URL" in caplog.text
    assert url not in caplog.text
