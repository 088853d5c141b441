"""Plans: what failed, was lost or was cancelled is queued again."""

import shutil

import pytest
from sqlalchemy import update
from tests.pipeline.default_plan import kinds_per
from tests.pipeline.in_process import attempt, job_id, plan_small, run_jobs, run_study
from tests.pipeline.planning.planned import copied, job_row, notified, statuses
from tests.small import link_classes, register, register_small

from hsae.catalog import ActivationSet, Job, transaction
from hsae.demo import backbone_folder
from hsae.pipeline.stages.train import train


def test_a_failed_job_and_what_waits_for_it_are_queued_again(service, tmp_path):
    images = copied(link_classes(service.folder, 2), tmp_path / "images")
    register(service, "small", images)
    shutil.move(images, tmp_path / "away")
    first = plan_small(service, layers=(1,))
    assert run_jobs(service, first) == ["failed"] + ["not queued"] * (len(first.jobs) - 1)
    assert {job_row(service, job.id).state for job in first.jobs} == {"failed"}
    again = plan_small(service, layers=(1,))
    assert [(job.id, job.status, job.state) for job in again.jobs] == [
        (job.id, "again", "queued" if job.kind == "extract" else "waiting") for job in first.jobs
    ]
    assert notified(again) == [first.jobs[0].id]
    for job in again.jobs:
        row = job_row(service, job.id)
        assert (row.error, row.attempt, row.owner, row.finished_at) == (None, 0, None, None)
    shutil.move(tmp_path / "away", images)
    assert run_jobs(service, again) == ["succeeded"] * len(again.jobs)


def test_fewer_layers_than_a_failed_extraction_had_are_not_held_up_by_it(service, tmp_path):
    images = copied(link_classes(service.folder, 2), tmp_path / "images")
    register(service, "small", images)
    shutil.move(images, tmp_path / "away")
    failed = plan_small(service, layers=(1, 3))
    assert run_jobs(service, failed, "extract") == ["failed"]
    shutil.move(tmp_path / "away", images)
    fewer = plan_small(service, layers=(1,))
    assert statuses(fewer) == [
        ("extract", "new"), *((kind, "again") for kind in kinds_per("layer") + kinds_per("sae")), ("compare", "new"),
    ]  # fmt: skip
    assert run_jobs(service, fewer) == ["succeeded"] * len(fewer.jobs)
    assert job_row(service, failed.jobs[0].id).state == "failed"


@pytest.mark.parametrize("moved", ["data set", "model"])
def test_a_failed_job_that_is_queued_again_looks_where_things_are_now(service, tmp_path, moved):
    images = copied(link_classes(service.folder, 2), tmp_path / "images")
    model = copied(backbone_folder(), tmp_path / "model")
    register(service, "small", images)
    first = plan_small(service, layers=(1,), model=str(model))
    source = images if moved == "data set" else model
    shutil.move(source, tmp_path / "moved")
    assert run_jobs(service, first, "extract") == ["failed"]
    if moved == "data set":
        register(service, "small", tmp_path / "moved")
    else:
        model = tmp_path / "moved"
    again = plan_small(service, layers=(1,), model=str(model))
    assert [job.id for job in again.jobs] == [job.id for job in first.jobs]
    assert run_jobs(service, again) == ["succeeded"] * len(again.jobs)


@pytest.mark.slow
def test_a_training_that_failed_after_a_checkpoint_can_be_asked_for_again(make_service):
    service = make_service(checkpoint_seconds=0)
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(1,))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    number = job_id(plan, "train")
    with pytest.raises(OSError, match="stopped"), attempt(service, number, stop_at=10) as given:
        train(*given)
    assert job_row(service, number).checkpoint is not None
    (shard,) = [key for key in service.store.list("activations/") if "shard" in key]
    content = service.store.get(shard)
    service.store.delete(shard)
    assert run_jobs(service, plan, "train") == ["waiting"]
    assert shard in job_row(service, number).error
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}
    assert service.store.get(shard) == content


def test_a_lost_shard_is_made_again_at_once_or_by_a_new_submit(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(1,))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    (shard,) = [key for key in service.store.list("activations/") if "shard" in key]
    service.store.delete(shard)
    with transaction(service.sessions) as session:  # the last one: no attempt is left to wait with
        session.execute(update(Job).values(max_attempts=1))
    assert run_jobs(service, plan, "train") == ["failed"]
    assert "submit again to make it anew" in job_row(service, job_id(plan, "train")).error
    again = plan_small(service, layers=(1,))
    assert {job["state"] for job in run_study(service, again.study_id)} == {"succeeded"}


def test_a_cancelled_job_is_queued_again(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(1,))
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state="cancelled"))
    again = plan_small(service, layers=(1,))
    assert [job.status for job in again.jobs] == ["again"] * len(plan.jobs)
    assert run_jobs(service, again) == ["succeeded"] * len(again.jobs)
    assert [job.id for job in again.jobs] == [job.id for job in plan.jobs]


def test_an_extraction_that_published_one_of_its_layers_makes_the_other(service):
    register_small(service, n_classes=2)
    plan = plan_small(service, layers=(1, 3))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    with transaction(service.sessions) as session:
        session.execute(update(ActivationSet).where(ActivationSet.layer == 3).values(manifest_sha256=None))
        session.execute(update(Job).where(Job.kind == "extract").values(state="failed"))
    again = plan_small(service, layers=(1, 3))
    assert [(job.id, job.status) for job in again.jobs if job.kind == "extract"] == [(plan.jobs[0].id, "again")]
    assert run_jobs(service, again, "extract") == ["succeeded"]
