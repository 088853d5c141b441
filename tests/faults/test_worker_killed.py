"""SIGKILL of a worker in the middle of each stage: another finishes the job, with the very same bits."""

import os
import signal
from types import SimpleNamespace

import psutil
import pytest
import torch
from sqlalchemy import text
from tests.faults.standing import KINDS
from tests.small import all_results, register_small, submit_mapped, submit_small, wait_until_done
from tests.waiting import (
    end_writer,
    has_waiting_writer,
    is_under_way,
    let_leases_expire,
    rows_of,
    wait_for,
    wait_until_running,
    writers_stopped,
)

from hsae.catalog import transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.streamed_set import SetShards
from hsae.pipeline.kinds.train import TrainRequest
from hsae.pipeline.stages.activation_reader import open_activation_set
from hsae.sae.config import SaeConfig
from hsae.sae.rows.streamed_rows import StreamedRows
from hsae.sae.training.trainer import train
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

_RUNNING = "SELECT id FROM job WHERE kind = :kind AND state = 'running'"
_KEPT_AT = {"probe": "class_probe", "compare": "comparison", "map": "map_set"}
"""Tables at which jobs that are over too soon are kept."""


def test_one_worker_after_the_other_is_killed_in_every_stage_and_the_last_finishes_with_the_same_bits(
    make_service, undisturbed
):
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=0.2)
    register_small(service)
    plan = submit_mapped(service)
    killed = {_kill_one(service, ["extract"])}
    with writers_stopped(service, "class_probe"):  # a probe is over too soon: it is kept at its end
        left = ["train", "probe"]  # which of them a worker takes first is not fixed
        while "probe" in left:
            killed.add(_kill_one(service, left))
    killed |= {_kill_one(service, [kind]) for kind in (*left, "analyze")}
    left = ["map", "compare"]
    with writers_stopped(service, "map_set"), writers_stopped(service, "comparison"):
        killed.add(_kill_one(service, left))
    (kind,) = left
    with writers_stopped(service, _KEPT_AT[kind]):
        killed.add(_kill_one(service, left))
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert {job["kind"] for job in jobs if job["id"] in killed} == set(KINDS)
    assert {job["id"]: job["attempt"] for job in jobs} == {job["id"]: 1 + (job["id"] in killed) for job in jobs}
    assert all_results(service) == expected


def _kill_one(service, kinds: list[str]) -> int:
    """Start a worker and kill it in the middle of a job of one of the kinds, which is taken off them; the job's id."""
    worker = service.start_worker()
    caught: list[tuple[str, int]] = []

    def is_caught() -> bool:
        caught[:] = [(kind, number) for kind in kinds for number in _in_the_middle(service, kind)]
        return bool(caught)

    wait_for(is_caught, 300, service.logs)
    ((kind, job_id),) = caught
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    if kind in _KEPT_AT:
        end_writer(service, _KEPT_AT[kind])
    with transaction(service.sessions) as session:
        assert session.execute(text("SELECT state FROM job WHERE id = :id"), {"id": job_id}).scalar() == "running"
    let_leases_expire(service)
    kinds.remove(kind)
    return job_id


def _in_the_middle(service, kind: str) -> list[int]:
    """The running job of this kind, if it has begun its work and is not at its end."""
    found = [row["id"] for row in rows_of(service, _RUNNING, kind=kind)]
    if kind in _KEPT_AT:
        return found if found and has_waiting_writer(service, _KEPT_AT[kind]) else []
    return [number for number in found if is_under_way(service, kind, number)]


@pytest.mark.slow
def test_a_worker_that_trains_a_sweep_over_one_pass_is_killed_and_every_sae_ends_with_the_same_bits(make_service):
    service = make_service(checkpoint_seconds=0.2)
    register_small(service, n_classes=12)
    common = {"rows": "stream", "window_shards": 1, "batch_size": 16, "expansion": 2, "n_steps": 1000}
    saes = tuple(SaeConfig(kind="topk", k=k, **common) for k in (2, 4))
    plan = submit_small(service, layers=(3,), saes=saes, extraction=ExtractionConfig(shard_images=10, batch_size=10))
    worker = service.start_worker()
    saved = "SELECT id FROM job WHERE kind = 'train' AND state = 'running' AND checkpoint IS NOT NULL"
    wait_for(lambda: len(rows_of(service, saved)) == len(saes), 300, service.logs)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    let_leases_expire(service)
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert {job["attempt"] for job in jobs if job["kind"] == "train"} == {2}
    context = SimpleNamespace(store=service.store, reading=lambda: transaction(service.sessions), check=lambda: None)
    for row in rows_of(service, "SELECT j.request, s.key, s.weights_sha256 FROM sae s JOIN job j ON j.id = s.job_id"):
        request = TrainRequest.model_validate(row["request"])
        _, manifest = open_activation_set(context, request.activation_key)
        expected = train(request.sae, StreamedRows(SetShards(context, manifest)), device=torch.device("cpu"))
        key = weights_key(row["key"], row["weights_sha256"])
        stored, _ = get_tensors(service.store, key, sha256=row["weights_sha256"])
        assert all(torch.equal(stored[name], tensor) for name, tensor in expected.sae.to_tensors().items())


@pytest.mark.slow
def test_children_die_with_their_worker(make_service):
    service = make_service()
    register_small(service)
    submit_small(service)
    worker = service.start_worker()
    wait_until_running(service, "extract")
    children = psutil.Process(worker.pid).children(recursive=True)
    assert children
    worker.kill()  # the parent alone, not its process group
    worker.wait()
    _, alive = psutil.wait_procs(children, timeout=240)
    assert alive == []
