"""hsae-admin jobs logs, against jobs of a real service."""

import json
import logging
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from sqlalchemy import text
from tests.small import register_small, submit_small

from hsae.catalog import transaction
from hsae.cli.main import cli
from hsae.pipeline.execution.job_log import JobLog

log = logging.getLogger("hsae.test")


@pytest.fixture
def admin(service, monkeypatch):
    """Runs `hsae-admin ARGUMENTS` on the service."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def job_id(service):
    """A queued job without a worker that would run it."""
    register_small(service, n_classes=4)
    return submit_small(service).jobs[0].id


def _log_an_attempt(service, job_id: int, fence: int) -> None:
    with JobLog(service.store, job_id, fence):
        log.info("start %d", fence)
        try:
            raise OSError("disk")
        except OSError:
            log.exception("it failed")


def test_prints_text_and_json(service, admin, job_id):
    for fence in (1, 2):
        _log_an_attempt(service, job_id, fence)
    result = admin("jobs", "logs", job_id)
    assert result.exit_code == 0
    first, second, *trace = result.output.splitlines()
    assert first.endswith("Z INFO     start 2")
    assert second.endswith("Z ERROR    it failed")
    assert trace[0] == "    Traceback (most recent call last):"
    assert trace[-1] == "    OSError: disk"
    records = [json.loads(line) for line in admin("jobs", "logs", job_id, "--attempt", 1, "--json").output.splitlines()]
    assert [record["message"] for record in records] == ["start 1", "it failed"]


def test_says_what_is_missing(service, admin, job_id):
    for arguments, line in (
        ((999,), "there is no job 999: see `hsae-admin jobs list`"),
        (
            (job_id,),
            f"job {job_id} has no log: it was not started yet, or its worker was killed at once (the job is queued)",
        ),
    ):
        result = admin("jobs", "logs", *arguments)
        assert result.exit_code == 1
        assert result.output == f"Error: {line}\n"
    _log_an_attempt(service, job_id, 1)
    result = admin("jobs", "logs", job_id, "--attempt", 3)
    assert result.exit_code == 1
    assert f"job {job_id} has no log of attempt 3: there are 1" in result.output


def test_follows_until_the_job_ends(service, job_id):
    _log_an_attempt(service, job_id, 1)
    process = subprocess.Popen(
        [sys.executable, "-c", "from hsae.cli.main import main; main()", "jobs", "logs", str(job_id), "--follow"],
        env={**os.environ, **service.environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().endswith("start 1\n")
    with JobLog(service.store, job_id, 2, upload_seconds=0.05):
        log.info("start 2")
        while not process.stdout.readline().endswith("start 2\n"):
            assert process.poll() is None
        with transaction(service.sessions) as session:
            session.execute(text("UPDATE job SET state = 'failed' WHERE id = :id"), {"id": job_id})
        log.error("the last words")
    rest, _ = process.communicate(timeout=120)
    assert rest.endswith("the last words\n")
    assert rest.count("\n") == 1
    assert process.returncode == 0
