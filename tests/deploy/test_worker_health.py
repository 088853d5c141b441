"""deploy/worker-health against a real broker and a real worker."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from tests.conftest import Service
from tests.deploy.compose_files import ROOT


def worker_health(broker_url: str | None) -> subprocess.CompletedProcess[str]:
    environment = {} if broker_url is None else {"HSAE_BROKER_URL": broker_url}
    return subprocess.run(
        [sys.executable, ROOT / "deploy/worker-health"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


@pytest.fixture
def broker_url(service: Service) -> str:
    assert service.settings.broker_url is not None
    return service.settings.broker_url.get_secret_value()


def _until(status: int, check: Callable[[], subprocess.CompletedProcess[str]]) -> subprocess.CompletedProcess[str]:
    end = time.monotonic() + 60
    while (done := check()).returncode != status and time.monotonic() < end:
        pass
    return done


@pytest.mark.slow
def test_a_worker_is_healthy_until_it_hangs(service: Service, broker_url: str) -> None:
    before = worker_health(broker_url)
    assert before.returncode == 1
    assert "no heartbeat" in before.stderr

    worker = service.start_worker()
    done = _until(0, lambda: worker_health(broker_url))
    assert done.returncode == 0, service.logs()

    os.kill(worker.pid, signal.SIGSTOP)
    try:
        done = _until(1, lambda: worker_health(broker_url))  # one heartbeat may still be under way
        assert "no heartbeat" in done.stderr
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    assert _until(0, lambda: worker_health(broker_url)).returncode == 0


def test_a_broker_that_cannot_be_used_is_unhealthy(broker_url: str) -> None:
    parts = urlsplit(broker_url)
    wrong = worker_health(f"redis://:wrong@{parts.hostname}:{parts.port}/0")
    assert wrong.returncode == 1
    assert "password" in wrong.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        absent = worker_health(f"redis://127.0.0.1:{free.getsockname()[1]}/0")
    assert absent.returncode == 1
    assert "refused" in absent.stderr
    assert "HSAE_BROKER_URL" in worker_health(None).stderr
