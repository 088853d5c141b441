"""A GPU that is lost between two jobs: the job stays for others, and the worker goes on in a new process."""

import pytest
import torch
from sqlalchemy import select
from tests.pipeline.in_process import job_id, plan_small
from tests.small import register_small

from hsae.catalog import Job, JobEvent, transaction
from hsae.devices import shown
from hsae.pipeline.execution.device import pick_device
from hsae.settings import Settings


@pytest.fixture
def task(make_service, monkeypatch):
    """A worker's task on a service with an extraction, what it did to its process, and the extraction's number."""
    service = make_service()
    register_small(service, n_classes=2)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    from hsae_worker import lifecycle, tasks  # here, because they read the environment, once

    done: list[str] = []
    monkeypatch.setattr(tasks, "settings", service.settings.model_copy(update={"device": "cuda"}))
    monkeypatch.setattr(lifecycle, "pause", lambda seconds: done.append(f"paused {seconds:g}"))
    monkeypatch.setattr(tasks, "_die", lambda: done.append("died"))
    return service, tasks.run_job, done, job_id(plan_small(service, layers=(1,)), "extract")


def test_its_job_is_left_to_others_and_its_process_ends(task, monkeypatch):
    """In the process that used the lost GPU no call works any more, also once the driver is back."""
    service, run_job, done, number = task

    def lost(*_, **__):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch, "ones", lost)
    assert run_job(number) == "left to others"
    assert done == ["paused 30", "died"]  # paused first: the next process takes no message at once
    with transaction(service.sessions) as session:
        job = session.get_one(Job, number)
        assert (job.state, job.attempt, job.error) == ("queued", 0, None)
        assert "claimed" not in set(session.scalars(select(JobEvent.reason).where(JobEvent.job_id == number)))


def test_a_worker_that_never_used_a_gpu_keeps_its_process(task, monkeypatch):
    _, run_job, done, number = task
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_job(number) == "left to others"
    assert done == ["paused 30"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_next_process_does_not_compute_on_the_processor(monkeypatch, tmp_path):
    """Without --gpu, too, and where the files of the driver went away with it: the parent had seen them."""
    driver = tmp_path / "nvidiactl"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(shown, "_DRIVER", driver)
    monkeypatch.setattr(shown, "_seen", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert pick_device(Settings(device="auto")).type == "cpu"
    driver.touch()
    shown.remember_gpu()
    driver.unlink()
    with pytest.raises(Exception, match="an NVIDIA GPU that torch cannot use"):
        pick_device(Settings(device="auto"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert pick_device(Settings(device="auto")).type == "cpu"
