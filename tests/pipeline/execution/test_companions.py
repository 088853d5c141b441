"""Streamed trainings of one sweep, which one worker makes over one pass of the data: each is a job of its own."""

import itertools
import threading

import pytest
import torch
from sqlalchemy import text
from tests.pipeline.in_process import run_jobs
from tests.small import bare_scoring, few_images, register, small_request

from hsae.catalog import transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.control.jobs import cancel
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.inputs.streamed_set import SetShards
from hsae.pipeline.kinds.train import TrainRequest
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.activation_reader import open_activation_set
from hsae.sae.config import SaeConfig
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.trainer import train
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

STREAM = {"rows": "stream", "window_shards": 2, "batch_size": 10}


@pytest.fixture(scope="module")
def ready(make_service):
    """A service with the activations of one layer."""
    service = make_service()
    register(service, "small", few_images(service.folder, 24))
    plan = plan_sweep(service, SaeConfig(kind="topk", k=2, n_steps=1))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    return service


def plan_sweep(service, *saes):
    request = small_request(
        layers=(3,), saes=saes, scoring=bare_scoring(), extraction=ExtractionConfig(shard_images=9, batch_size=6)
    )
    return submit(request, service.settings, service.sessions)


def sweep(n_steps: int) -> list[SaeConfig]:
    """Three that share a pass, though one is shorter, and two that cannot: another seed, and rows in memory."""
    return [
        SaeConfig(kind="topk", k=4, expansion=2, n_steps=n_steps, **STREAM),
        SaeConfig(kind="topk", k=2, expansion=1, n_steps=n_steps // 2, **STREAM),
        SaeConfig(expansion=2, n_steps=n_steps, **STREAM),
        SaeConfig(kind="topk", k=4, expansion=2, n_steps=n_steps, seed=1, **STREAM),
        SaeConfig(kind="topk", k=4, expansion=2, n_steps=n_steps),
    ]


def trainings(service, plan):
    """The plan's jobs of training, in the order of their SAEs."""
    ids = [job.id for job in plan.jobs if job.kind == "train"]
    with transaction(service.sessions) as session:
        rows = session.execute(
            text("SELECT id, key, state, attempt, request, checkpoint FROM job WHERE id = ANY(:ids) ORDER BY id"),
            {"ids": ids},
        )
        return [dict(row) for row in rows.mappings()]


def assert_as_by_themselves(service, jobs):
    """The stored weights are those of a training that shared nothing, and every SAE has its row."""

    class Context:
        store = service.store
        reading = staticmethod(lambda: transaction(service.sessions))
        check = staticmethod(lambda: None)

    for job in jobs:
        request = TrainRequest.model_validate(job["request"])
        with transaction(service.sessions) as session:
            query = text("SELECT weights_sha256, job_id FROM sae WHERE key = :key")
            (row,) = session.execute(query, {"key": request.key}).all()
        assert row.job_id == job["id"]
        stored, _ = get_tensors(service.store, weights_key(request.key, row.weights_sha256), sha256=row.weights_sha256)
        _, manifest = open_activation_set(Context, request.activation_key)
        expected = train(request.sae, StreamedRows(SetShards(Context, manifest)), device=torch.device("cpu"))
        for name, tensor in expected.sae.to_tensors().items():
            assert torch.equal(stored[name], tensor), (job["id"], name)


def states(jobs):
    return [(job["state"], job["attempt"]) for job in jobs]


@pytest.mark.slow
def test_one_worker_trains_a_sweep_over_one_pass_and_each_has_its_own_bits(ready):
    plan = plan_sweep(ready, *sweep(30))
    first, *_, other_seed, in_memory = trainings(ready, plan)
    assert run_job(first["id"], ready.settings, "test") == "succeeded"
    jobs = trainings(ready, plan)
    assert states(jobs) == [("succeeded", 1)] * 3 + [("queued", 0)] * 2
    assert_as_by_themselves(ready, jobs[:3])
    assert not any(thread.name.startswith("job-") for thread in threading.enumerate())
    assert [run_job(job["id"], ready.settings, "test") for job in (other_seed, in_memory)] == ["succeeded"] * 2


def test_one_by_one_where_the_worker_is_set_so_and_after_an_attempt(ready):
    plan = plan_sweep(ready, *sweep(32)[:3])
    first, second, third = (job["id"] for job in trainings(ready, plan))
    alone = ready.settings.model_copy(update={"trained_together": 1})
    assert run_job(first, alone, "test") == "succeeded"
    assert states(trainings(ready, plan)) == [("succeeded", 1), ("queued", 0), ("queued", 0)]
    with transaction(ready.sessions) as session:
        session.execute(text("UPDATE job SET attempt = 1 WHERE id = :id"), {"id": second})
    assert run_job(third, ready.settings, "test") == "succeeded"  # the second was tried before
    assert states(trainings(ready, plan)) == [("succeeded", 1), ("queued", 1), ("succeeded", 1)]
    assert run_job(second, ready.settings, "test") == "succeeded"


@pytest.mark.slow
def test_a_worker_that_stops_hands_all_back_and_they_go_on_from_their_checkpoints(ready):
    plan = plan_sweep(ready, *sweep(120)[:3])
    first, *_ = (job["id"] for job in trainings(ready, plan))
    asked = itertools.count()
    assert run_job(first, ready.settings, "test", stop_requested=lambda: next(asked) > 200) == "handed back"
    jobs = trainings(ready, plan)
    assert states(jobs) == [("queued", 0)] * 3
    assert any(job["checkpoint"] for job in jobs)
    assert run_job(first, ready.settings, "test") == "succeeded"
    jobs = trainings(ready, plan)
    assert states(jobs) == [("succeeded", 1)] * 3
    assert_as_by_themselves(ready, jobs)


@pytest.mark.slow
def test_a_job_that_is_cancelled_ends_by_itself(ready):
    plan = plan_sweep(ready, *sweep(122)[:3])
    first, second, third = (job["id"] for job in trainings(ready, plan))
    asked = itertools.count()

    def cancel_second() -> bool:
        if next(asked) == 200:
            cancel(ready.sessions, ready.store, [second], "test")
        return False

    assert run_job(first, ready.settings, "test", stop_requested=cancel_second) == "succeeded"
    assert [job["state"] for job in trainings(ready, plan)] == ["succeeded", "cancelled", "succeeded"]
    assert_as_by_themselves(ready, [job for job in trainings(ready, plan) if job["id"] in (first, third)])
    stored = [key for key in ready.store.list("saes/") if "checkpoints" in key]
    assert stored == []
