"""Parts of an extraction: jobs of their own that any number of workers take, in any order, for the same manifests."""

import platform
import random
from datetime import timedelta
from threading import Barrier, Thread

import pytest
import torch
from sqlalchemy import select, update
from tests.pipeline.in_process import job_id, plan_small, run_jobs, run_study
from tests.pipeline.planning.planned import statuses
from tests.small import register_small

from hsae.catalog import ActivationSet, ActivationShard, Job, JobEvent, transaction
from hsae.devices.hardware import hardware_of
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.control.jobs import cancel, retry
from hsae.pipeline.execution.run import run_job
from hsae.pipeline.stages.activations import hardware
from hsae.pipeline.upkeep.garbage import collect, find_garbage

_EXTRACTION = ExtractionConfig(shard_images=2, batch_size=2)
_PART = 4  # images: two shards
_DONE = "succeeded"


def small_service(make_service, **settings):
    """Thirteen images: seven shards, which are four parts."""
    service = make_service(extraction_part_images=_PART, **settings)
    register_small(service, n_classes=3)
    return service


def planned(service, layers=(1, 3)):
    return plan_small(service, layers=layers, extraction=_EXTRACTION)


def parts_of(plan):
    return [job.id for job in plan.jobs if job.kind == "part"]


def states_of(service, ids):
    with transaction(service.sessions) as session:
        return dict(session.execute(select(Job.id, Job.state).where(Job.id.in_(ids))).all())


def published(service):
    """What is left of an extraction: the manifests' checksums by layer."""
    with transaction(service.sessions) as session:
        return dict(session.execute(select(ActivationSet.layer, ActivationSet.manifest_sha256)).all())


def shards(service):
    with transaction(service.sessions) as session:
        return session.execute(select(ActivationShard.activation_set_id, ActivationShard.shard)).all()


def stored(service):
    """The objects of all activation sets."""
    return {listed.key for listed in service.store.entries("activations/")}


@pytest.fixture(scope="module")
def undivided(make_service):
    """The manifests that one job makes."""
    service = make_service(extraction_part_images=0)
    register_small(service, n_classes=3)
    plan = planned(service)
    assert parts_of(plan) == []
    assert run_jobs(service, plan, "extract") == [_DONE]
    return published(service)


def test_parts_in_any_order_give_the_manifests_of_one_job(make_service, undivided):
    service = small_service(make_service)
    plan = planned(service)
    parts = parts_of(plan)
    assert [job.title.rpartition(", ")[2] for job in plan.jobs if job.kind == "part"] == [
        f"part {number} of 4" for number in (1, 2, 3, 4)
    ]
    assert statuses(plan)[:5] == [("part", "new")] * 4 + [("extract", "new")]
    assert states_of(service, [job_id(plan, "extract")]) == {job_id(plan, "extract"): "waiting"}
    random.Random(5).shuffle(parts)
    assert [run_job(number, service.settings, "test") for number in parts] == [_DONE] * 4
    assert published(service) == {1: None, 3: None}
    assert run_jobs(service, plan, "extract") == [_DONE]
    assert published(service) == undivided
    with transaction(service.sessions) as session:
        assert {row.hardware for row in session.scalars(select(ActivationSet))} == {hardware_of_cpu()}
        results = [session.get_one(Job, number).result for number in parts_of(plan)]
    assert sum(result["n_images"] for result in results) == 13


def hardware_of_cpu():
    return hardware_of(torch.device("cpu"))


def test_parts_at_the_same_instant(make_service, undivided):
    service = small_service(make_service)
    plan = planned(service)
    start = Barrier(4)
    outcomes = []

    def work(number):
        start.wait(240)
        outcomes.append(run_job(number, service.settings, f"worker {number}"))

    threads = [Thread(target=work, args=(number,)) for number in parts_of(plan)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [_DONE] * 4
    assert run_jobs(service, plan, "extract") == [_DONE]
    assert published(service) == undivided


@pytest.mark.slow
def test_a_later_submit_joins_reuses_and_needs_no_parts_of_what_is_there(make_service):
    service = small_service(make_service)
    first = planned(service)
    assert statuses(planned(service))[:5] == [("part", "joined")] * 4 + [("extract", "joined")]
    run_study(service, first.study_id)
    again = planned(service)
    assert {status for _, status in statuses(again)} == {"reused"}
    assert [job.id for job in again.jobs] == [job.id for job in first.jobs]
    service.settings = service.settings.model_copy(update={"extraction_part_images": 2})
    others = planned(service)
    assert parts_of(others) == parts_of(first), "it was divided already"
    assert {status for _, status in statuses(others)} == {"reused"}


def test_a_failed_part_ends_the_extraction_and_is_made_again_alone(make_service, undivided):
    service = small_service(make_service, max_attempts=1)
    plan = planned(service)
    first, second, *_ = parts_of(plan)
    assert run_job(first, service.settings, "test") == _DONE
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == second).values(request={}))
        extraction = session.get_one(Job, job_id(plan, "extract"))
    service.settings = service.settings.model_copy(update={"max_outages": 0})
    assert run_job(second, service.settings, "test") == "failed"
    assert states_of(service, [second, extraction.id]) == {second: "failed", extraction.id: "failed"}
    again = planned(service)
    of_parts = {job.id: job.status for job in again.jobs if job.kind == "part"}
    assert of_parts[first] == "reused"
    assert of_parts[second] == "again"
    rows = run_study(service, again.study_id)
    assert {row["state"] for row in rows} == {_DONE}
    assert published(service) == undivided


@pytest.mark.slow
def test_cancelling_the_extraction_cancels_its_parts_and_deletes_what_they_stored(make_service, undivided):
    service = small_service(make_service)
    plan = planned(service)
    first, *others = parts_of(plan)
    assert run_job(first, service.settings, "test") == _DONE
    assert stored(service)
    ended = cancel(service.sessions, service.store, [job_id(plan, "extract")], "a user").job_ids
    assert set(others) < set(ended)
    assert first not in ended
    assert states_of(service, parts_of(plan)) == {first: "failed"} | dict.fromkeys(others, "cancelled")
    assert shards(service) == []
    assert stored(service) == set()
    with transaction(service.sessions) as session:
        assert session.scalars(select(ActivationSet.hardware)).all() == [None, None]
        told = session.scalars(select(JobEvent.message).where(JobEvent.job_id == first).order_by(JobEvent.id)).all()[-1]
        assert "shards were deleted" in told
        retry(session, [job_id(plan, "extract")], "a user", service.settings)
    assert set(states_of(service, parts_of(plan)).values()) == {"queued"}
    assert {row["state"] for row in run_study(service, plan.study_id)} >= {_DONE}
    assert published(service) == undivided


def test_cancelling_one_part_ends_all_of_them(make_service):
    service = small_service(make_service)
    plan = planned(service)
    parts = parts_of(plan)
    ended = cancel(service.sessions, service.store, [parts[2]], "a user").job_ids
    assert {*parts, job_id(plan, "extract")} <= set(ended)


def test_nothing_of_a_live_part_is_garbage(make_service):
    service = small_service(make_service)
    plan = planned(service)
    first, *_ = parts_of(plan)
    assert run_job(first, service.settings, "test") == _DONE
    with transaction(service.sessions) as session:  # the extraction has ended, and parts of it have not
        session.execute(update(Job).where(Job.id == job_id(plan, "extract")).values(state="failed"))
        service.store.put(f"activations/{session.scalars(select(ActivationSet.key)).first()}/shard-x", b"half-made")
    before = stored(service)
    now = timedelta(0)
    assert list(find_garbage(service.sessions, service.store, min_age=now, partial=True)) == []
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id.in_(parts_of(plan))).values(state="failed"))
    found = list(find_garbage(service.sessions, service.store, min_age=now, partial=True))
    collect(service.sessions, service.store, found, min_age=now, partial=True)
    assert before
    assert stored(service) == set()


@pytest.mark.slow
def test_another_kind_of_processor_leaves_it_alone(make_service, undivided, monkeypatch):
    service = small_service(make_service, retry_seconds=0)
    plan = planned(service)
    first, second, *_ = parts_of(plan)
    assert run_job(first, service.settings, "test") == _DONE
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(hardware, "hardware_of", lambda device: "NVIDIA H200")
        assert run_job(second, service.settings, "another") == "queued again"
    with transaction(service.sessions) as session:
        row = session.get_one(Job, second)
        assert row.attempt == 0
        assert f"{hardware_of_cpu()} has begun these activations" in row.error
        assert "NVIDIA H200" in row.error
    assert {row["state"] for row in run_study(service, plan.study_id)} == {_DONE}
    assert published(service) == undivided


def test_a_processor_is_known_by_its_maker_and_its_instructions(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for flags, expected in (("avx512f", "GenuineIntel AVX512"), ("avx512_bf16", "GenuineIntel AVX512 bfloat16")):
        cpuinfo = tmp_path / flags
        cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu {flags}\n")
        assert hardware_of(torch.device("cpu"), cpuinfo) == expected
    assert hardware_of(torch.device("cpu"), tmp_path / "none").startswith(platform.machine())
    assert hardware_of(torch.device("meta")) == "meta"
