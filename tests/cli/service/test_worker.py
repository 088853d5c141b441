"""hsae-admin worker: refuses in one line, or becomes a Celery worker."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.cli.refusals import assert_one_line
from tests.waiting import wait_for

from hsae.catalog import QUEUES
from hsae.cli.service import stack
from hsae.cli.service.stack import _environments
from hsae.cli.service.worker import worker
from hsae.cli.service.worker_process import worker_command
from hsae.errors import UserError
from hsae.pipeline.queue.notifier import make_app


def test_the_queues_are_those_of_the_catalog():
    (queues,) = [option for option in worker.params if option.name == "queues"]
    assert queues.type.choices == QUEUES  # type: ignore[attr-defined]


def test_the_command():
    command = worker_command(["cpu"], name="one", log_level="DEBUG", further=["--max-tasks-per-child", "3"])
    assert command[1:] == [
        "-m", "celery", "--app", "hsae_worker.app", "worker", "--queues", "cpu", "--hostname", "one@%h",
        "--loglevel", "DEBUG", "--without-mingle", "--without-gossip", "--max-tasks-per-child", "3",
    ]  # fmt: skip
    assert "--hostname" not in worker_command()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HSAE_DATABASE_URL", "postgresql://u:p@127.0.0.1:1/d", ["database", "HSAE_DATABASE_URL"]),
        ("HSAE_BROKER_URL", "redis://127.0.0.1:1/0", ["broker", "HSAE_BROKER_URL"]),
    ],
)
def test_a_server_is_down(admin, service, variable, value, words):
    assert_one_line(admin(service, "worker", **{variable: value}), *words)


def test_a_database_that_is_not_migrated(admin, make_service):
    assert_one_line(admin(make_service(migrate=False), "worker"), "db upgrade")


def test_a_gpu_that_is_not_there(admin, service):
    assert_one_line(admin(service, "worker", "--gpu", torch.cuda.device_count()), "there is no GPU", "--gpu")
    assert_one_line(admin(service, "worker", "--name", "a@b"), "a@b")


def test_workers_of_the_stack(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(stack, "_GPU_DRIVERS", (Path("/dev/no-such-gpu"),))
    assert _environments(set(), ()) == _environments({"worker", "worker-cpu"}, ()) == {"worker": {}, "worker-cpu": {}}
    monkeypatch.setattr(stack, "_GPU_DRIVERS", (Path("/dev/no-such-gpu"), Path("/dev/null")))
    assert _environments(set(), ()) == _environments({"worker"}, ()) == {"worker": {}}
    each = {
        "worker-gpu0": {"CUDA_VISIBLE_DEVICES": "0", "HSAE_DEVICE": "cuda"},
        "worker-gpu1": {"CUDA_VISIBLE_DEVICES": "1", "HSAE_DEVICE": "cuda"},
    }
    assert _environments(set(), (0, 1)) == each
    assert _environments(set(each), ()) == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert _environments(set(), (1,)) == {"worker-gpu1": {"CUDA_VISIBLE_DEVICES": "5", "HSAE_DEVICE": "cuda"}}
    with pytest.raises(UserError, match="no GPU 2"):
        _environments(set(), (2,))
    with pytest.raises(UserError, match="hsae-admin down"):
        _environments({"worker"}, (0,))


@pytest.mark.slow
def test_it_becomes_a_worker_of_the_queues_asked_for(service):
    log = (service.folder / "worker-cli.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-c", "from hsae.cli.main import main; main()", "worker", "--queue", "cpu",
         "--name", "analyst", "--", "--pidfile", str(service.folder / "pid")],
        env={**os.environ, **service.environment}, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    log.close()
    service.workers.append(process)
    control = make_app(service.settings).control
    found: dict[str, list[dict]] = {}

    def answers() -> bool:
        found.update(control.inspect(timeout=5).active_queues() or {})
        return bool(found)

    wait_for(answers, message=service.logs)
    ((name, queues),) = found.items()
    assert name.startswith("analyst@")
    assert [queue["name"] for queue in queues] == ["cpu"]
    assert (service.folder / "pid").read_text().strip() == str(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0, service.logs()
