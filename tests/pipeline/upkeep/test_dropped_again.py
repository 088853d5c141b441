"""Dropped activations that somebody wants after all: they are extracted again, and a line says so until then."""

import pickle
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.pipeline.in_process import TINY_SAE, job_id, plan_small, run_jobs, run_study
from tests.pipeline.planning.planned import job_row, statuses
from tests.pipeline.upkeep.dropped import dropped, objects_of, set_of
from tests.small import bare_scoring, register_small, small_request

import hsae
from hsae.catalog import ActivationSet, Job, JobDependency, transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.connections import Connections
from hsae.pipeline.control.jobs import retry
from hsae.pipeline.planning.submit import preview
from hsae.pipeline.upkeep.damage import losses_noted
from hsae.sae.config import SaeConfig
from hsae.store.faults import ActivationsDroppedError, ObjectMissingError

pytestmark = pytest.mark.slow  # studies run twice

DROP: dict[str, Any] = {"drop_after": "analyze", "extraction": ExtractionConfig(shard_images=2, batch_size=2)}
OTHER_SAE = SaeConfig(kind="topk", k=2, expansion=2, n_steps=30)


def run(service, plan):
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}


def gone(service, layers=(1,), **changes):
    """A study that is done, and whose activations are dropped."""
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=layers, **(DROP | changes))
    run(service, plan)
    assert len(dropped(service)) == len(layers)
    return plan


def manifest(service, layer=1):
    return set_of(service, layer).manifest_sha256


def test_the_same_request_needs_them_only_if_it_keeps_them(service):
    gone(service)
    before = manifest(service)
    same = plan_small(service, layers=(1,), **DROP)
    assert same.n_queued == 0
    request = small_request(layers=(1,), saes=(TINY_SAE,), scoring=bare_scoring(), extraction=DROP["extraction"])
    shown = preview(request, service.settings, service.sessions)
    assert [(job.kind, job.estimate.n_bytes) for job in shown.jobs if job.status == "again"] == [
        ("extract", 8 * 192 * 4)
    ]
    assert set_of(service, 1).dropped_at is not None
    kept = plan_small(service, layers=(1,), **(DROP | {"drop_after": None}))
    assert [kind for kind, status in statuses(kept) if status != "reused"] == ["extract"]
    run(service, kept)
    assert (manifest(service), len(objects_of(service, 1))) == (before, 5)
    assert dropped(service) == []


def test_a_new_sae_waits_for_its_layer_alone(service):
    """Of the two layers of the extraction the other one stays dropped."""
    first = gone(service, layers=(1, 3))
    other = set_of(service, 3)
    plan = plan_small(service, layers=(1,), saes=(OTHER_SAE,), **DROP)
    assert statuses(plan)[0] == ("extract", "again")
    assert job_id(plan, "extract") == job_id(first, "extract")
    assert job_row(service, job_id(plan, "train")).state == "waiting"
    run(service, plan)
    assert len(objects_of(service, 1)) == 5
    assert len(objects_of(service, 3)) == 1
    assert (set_of(service, 3).manifest_sha256, set_of(service, 3).dropped_at) == (
        other.manifest_sha256, other.dropped_at,
    )  # fmt: skip
    assert dropped(service) == [set_of(service, 1).id]


def test_a_new_analysis_of_an_sae_that_exists_waits_for_them(service):
    gone(service)
    plan = plan_small(service, layers=(1,), scoring=bare_scoring(threshold=0.5), **DROP)
    assert dict(statuses(plan)) == {
        "extract": "again", "probe": "reused", "train": "reused", "analyze": "new", "compare": "new",
    }  # fmt: skip
    with transaction(service.sessions) as session:
        needed = select(JobDependency.depends_on_id).where(JobDependency.job_id == job_id(plan, "analyze"))
        assert set(session.scalars(needed)) == {job_id(plan, "train"), job_id(plan, "extract")}
    assert run_jobs(service, plan, "analyze") == ["not queued"]
    run(service, plan)


def test_parts_are_made_again_too(make_service):
    service = make_service(extraction_part_images=4)
    gone(service)
    before = manifest(service)
    plan = plan_small(service, layers=(1,), saes=(OTHER_SAE,), **DROP)
    assert statuses(plan)[:3] == [("part", "again"), ("part", "again"), ("extract", "again")]
    run(service, plan)
    assert manifest(service) == before


def test_a_job_that_is_tried_again_waits_until_they_are_made_again(make_service):
    """Also where no attempt is left: it is not the job's fault."""
    service = make_service(max_attempts=1)
    plan = gone(service)
    (latents,) = [key for key in service.store.list("analyses/") if "/latents-" in key]
    content, before = service.store.get(latents), manifest(service)
    service.store.delete(latents)
    number, extract = job_id(plan, "analyze"), job_id(plan, "extract")
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == number).values(state="failed"))
    with transaction(service.sessions) as session:
        assert [found.job_id for found in retry(session, [number], "test", service.settings).notifications] == [number]
    assert run_jobs(service, plan, "analyze") == ["waiting"]
    row = job_row(service, number)
    assert row.attempt == 0
    assert row.error.startswith("the activations of layer 1 (set 1) were dropped on ")
    assert row.error.endswith(f": job {extract} makes it again")
    assert run_jobs(service, plan, "extract", "analyze") == ["succeeded"] * 2
    assert service.store.get(latents) == content
    assert manifest(service) == before
    assert len(dropped(service)) == 1


def test_whoever_reads_them_is_told(service):
    plan = gone(service)
    connections = Connections()
    connections.use(service.settings)
    study = hsae.Workspace(connections).study(plan.study_id)
    line = r"^the activations of layer 1 \(set 1\) were dropped on \d{4}-\d\d-\d\d: submit the study again with --keep"
    with pytest.raises(ActivationsDroppedError, match=line) as told:
        study.activations(layer=1)
    assert "\n" not in str(told.value)
    copied = pickle.loads(pickle.dumps(told.value))  # noqa: S301 -- our own bytes
    assert (str(copied), copied.key) == (str(told.value), told.value.key)
    # One that was opened before finds a shard missing: it is not lost, and no job runs again for it.
    shard = f"activations/{set_of(service, 1).key}/shard-00000-{'0' * 16}.safetensors"
    with pytest.raises(ActivationsDroppedError, match=line), losses_noted(service.sessions, "test"):
        raise ObjectMissingError(shard, service.store.bucket)
    assert set_of(service, 1).manifest_sha256 is not None
    assert job_row(service, job_id(plan, "extract")).state == "succeeded"


def test_embeddings_that_were_dropped_are_made_again(service):
    """Of a study that names their set, which belongs to another extraction than its own."""
    gone(service, layers=(3,))
    number = set_of(service, 3).id
    plan = plan_small(service, layers=(1,), scoring=bare_scoring(embeddings=str(number)), **DROP)
    assert sorted(status for kind, status in statuses(plan) if kind == "extract") == ["again", "new"]
    run(service, plan)
    with transaction(service.sessions) as session:
        assert set(session.scalars(select(ActivationSet.dropped_at))) == {None}
    assert sorted(dropped(service)) == sorted([number, set_of(service, 1).id])


def test_other_hardware_leaves_them_to_the_one_that_began_them(service):
    """The same rows have the same bits, whoever reads them later."""
    gone(service)
    with transaction(service.sessions) as session:
        session.execute(update(ActivationSet).values(hardware="another processor"))
    plan = plan_small(service, layers=(1,), **(DROP | {"drop_after": None}))
    assert run_jobs(service, plan, "extract") == ["queued again"]
    assert "another processor has begun these activations" in job_row(service, job_id(plan, "extract")).error
