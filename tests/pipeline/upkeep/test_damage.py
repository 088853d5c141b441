"""Objects that a disk lost, and clean-ups in odd moments: what is needed is made again, what is healthy stays."""

from datetime import timedelta

import pytest
import torch
from sqlalchemy import func, select, text, update
from tests.pipeline.in_process import TINY_SAE, job_id, run_jobs
from tests.small import bare_scoring, register_small, small_request

from hsae.catalog import ActivationSet, ActivationShard, Analysis, Job, transaction
from hsae.errors import UserError
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.control.jobs import cancel, retry_all
from hsae.pipeline.exports.export import export_analysis
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.heartbeat import Heartbeat
from hsae.pipeline.stages.context import StageContext
from hsae.pipeline.upkeep.damage import wait_for_maker
from hsae.pipeline.upkeep.garbage import find_garbage
from hsae.sae.config import SaeConfig
from hsae.store.faults import ObjectMissingError

pytestmark = pytest.mark.slow


def _submit(service, *layers: int, saes: tuple[SaeConfig, ...] = (TINY_SAE,)):
    request = small_request(
        layers=layers,
        saes=saes,
        extraction=ExtractionConfig(shard_images=8, batch_size=8),
        scoring=bare_scoring(),
    )
    return submit(request, service.settings, service.sessions)


def _garbage(service) -> list[str]:
    found = find_garbage(service.sessions, service.store, min_age=timedelta())
    return [listed.key for garbage in found for listed in garbage.objects]


def test_a_training_whose_checkpoint_is_lost_starts_anew(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    with transaction(service.sessions) as session:
        lost = {"object_key": "saes/gone/checkpoints/1-1.safetensors", "sha256": "0" * 64}
        session.execute(update(Job).where(Job.kind == "train").values(checkpoint=lost))
    assert run_jobs(service, plan, "train", "analyze") == ["succeeded"] * 2


def _shards(service, layer: int) -> list[str]:
    with transaction(service.sessions) as session:
        of_layer = select(ActivationShard.object_key).join(
            ActivationSet, ActivationShard.activation_set_id == ActivationSet.id
        )
        return list(session.scalars(of_layer.where(ActivationSet.layer == layer).order_by(ActivationShard.shard)))


def _job(service, number: int) -> Job:
    with transaction(service.sessions) as session:
        return session.get_one(Job, number)


def _damage(service, key: str) -> None:
    """The object's bytes are others, as after a fault that its server does not notice."""
    service.store.put(key, b"rotten")


def test_lost_shards_of_one_layer_are_made_again_and_cost_the_other_layers_nothing(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1, 3)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    before = {key: service.store.get(key) for key in service.store.list("activations/")}
    first, last = _shards(service, 1)
    service.store.delete(first)
    _damage(service, last)
    assert run_jobs(service, plan, "train") == ["waiting", "succeeded"]
    extract, train = job_id(plan, "extract"), next(job.id for job in plan.jobs if job.kind == "train")
    waiting = _job(service, train)
    assert waiting.state == "waiting"
    assert (
        waiting.error == f"object {first} is missing from bucket {service.store.bucket}: job {extract} makes it again"
    )
    assert _job(service, extract).state == "queued"
    assert _shards(service, 1) == []  # both at once
    assert not [key for key in _garbage(service) if "/shard-" in key]
    assert sorted(run_jobs(service, plan)) == [
        "not queued",
        *["succeeded"] * (len(plan.jobs) - 1),
    ]  # one training is done
    assert {key: service.store.get(key) for key in service.store.list("activations/")} == before
    assert (_job(service, train).attempt, _job(service, train).error) == (2, None)
    with transaction(service.sessions) as session:
        assert set(session.scalars(select(Job.state))) == {"succeeded"}


def test_a_second_job_that_misses_the_same_object_waits_at_no_cost(service):
    register_small(service, n_classes=3)
    other = SaeConfig(kind="topk", k=2, expansion=2, n_steps=30)
    plan = _submit(service, 1, saes=(TINY_SAE, other))
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    service.store.delete(_shards(service, 1)[0])
    assert run_jobs(service, plan, "train") == ["waiting"] * 2
    first, second = (_job(service, job.id) for job in plan.jobs if job.kind == "train")
    assert (first.attempt, second.attempt) == (1, 0)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    assert run_jobs(service, plan, "train", "analyze") == ["succeeded"] * 4


def test_lost_weights_are_trained_again_while_their_analysis_waits(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan, "extract", "train") == ["succeeded"] * 2
    (weights,) = service.store.list("saes/")
    content = service.store.get(weights)
    _damage(service, weights)
    assert run_jobs(service, plan, "analyze") == ["waiting"]
    assert run_jobs(service, plan, "train", "analyze", "compare") == ["succeeded"] * 3
    assert service.store.get(weights) == content


def test_a_disk_that_goes_on_losing_objects_ends_in_an_error(make_service):
    service = make_service(max_attempts=2)
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    for outcome in ("waiting", "failed"):
        assert run_jobs(service, plan, "extract") == ["succeeded"]
        service.store.delete(_shards(service, 1)[0])
        assert run_jobs(service, plan, "train") == [outcome]
    train, extract = _job(service, job_id(plan, "train")), _job(service, job_id(plan, "extract"))
    assert "submit again to make it anew" in train.error
    assert extract.state == "failed"
    again = _submit(service, 1)
    assert run_jobs(service, again) == ["succeeded"] * len(again.jobs)


def test_what_was_made_again_since_an_attempt_began_is_read_once_more(service):
    """Two jobs miss the same object; the second one says so only when it is there again."""
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    train, extract = job_id(plan, "train"), job_id(plan, "extract")
    with transaction(service.sessions) as session:
        claimed = jobs.claim(session, train, "test", 60)
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == extract).values(finished_at=func.now()))
    with Heartbeat(service.sessions, claimed.lease, 60) as heartbeat:
        context = StageContext(service.settings, service.store, torch.device("cpu"), claimed, heartbeat)
        loss = ObjectMissingError(_shards(service, 1)[0], service.store.bucket)
        notifications = wait_for_maker(context, claimed, loss)
    assert [notification.job_id for notification in notifications] == [train]
    assert len(_shards(service, 1)) == 2
    assert (_job(service, train).state, _job(service, train).attempt) == ("queued", 0)
    assert _job(service, extract).state == "succeeded"


def test_a_maker_that_was_cancelled_does_not_run_again(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    service.store.delete(_shards(service, 1)[0])
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == job_id(plan, "extract")).values(state="cancelled"))
    assert run_jobs(service, plan, "train") == ["failed"]


def test_a_lost_listing_is_stored_again_by_whoever_registered_it(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    (listing,) = service.store.list("datasets/")
    service.store.delete(listing)
    assert run_jobs(service, plan, "extract") == ["failed"]
    assert "run `hsae-admin dataset add` again as before" in _job(service, job_id(plan, "extract")).error


def test_lost_objects_of_an_analysis_are_made_again_under_the_same_rows(service, tmp_path):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    before = sorted(service.store.list("analyses/"))
    with transaction(service.sessions) as session:
        (analysis,) = session.scalars(select(Analysis.id)).all()
        n_scores = session.execute(text("SELECT count(*) FROM node_score")).scalar_one()
    service.store.delete(next(key for key in before if "/latents-" in key))
    with pytest.raises(UserError, match="submit again to make it anew"):
        export_analysis(None, tmp_path / "lost", service.sessions, service.store)
    assert run_jobs(service, _submit(service, 1), "analyze") == ["succeeded"]
    assert sorted(service.store.list("analyses/")) == before
    with transaction(service.sessions) as session:
        assert session.scalars(select(Analysis.id)).all() == [analysis]
        assert session.execute(text("SELECT count(*) FROM node_score")).scalar_one() == n_scores
    export_analysis(None, tmp_path / "export", service.sessions, service.store)


@pytest.mark.parametrize("kind", ["train", "analyze"])
def test_cancelling_a_job_that_has_published_deletes_nothing_that_rows_name(service, kind):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan) == ["succeeded"] * len(plan.jobs)
    before = sorted(service.store.list(""))
    number = job_id(plan, kind)
    with transaction(service.sessions) as session:  # its worker died before it could say so
        session.execute(update(Job).where(Job.id == number).values(state="queued"))
    assert cancel(service.sessions, service.store, [number], "me").job_ids == (number,)
    assert [key for key in sorted(service.store.list("")) if not key.startswith("logs/")] == [
        key for key in before if not key.startswith("logs/")
    ]


def test_a_request_that_this_version_cannot_read_waits_for_another_worker(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    with transaction(service.sessions) as session:
        session.execute(text("""UPDATE job SET request = request || '{"of_the_future": 1}' WHERE kind = 'extract'"""))
    assert run_jobs(service, plan, "extract") == ["queued again"]
    with transaction(service.sessions) as session:
        row = session.scalars(select(Job).where(Job.kind == "extract")).one()
        assert (row.state, row.attempt, row.outages) == ("queued", 0, 1)
        assert "cannot read the request: upgrade the worker" in row.error


def test_retrying_many_leaves_alone_what_cannot_be(service):
    register_small(service, n_classes=3)
    first = _submit(service, 1, 2)
    number = job_id(first, "extract")
    cancel(service.sessions, service.store, [number], "me")
    second = _submit(service, 2)
    other = job_id(second, "extract")
    with transaction(service.sessions) as session:
        # The layer is the other job's now.
        if other == number:
            pytest.skip("the planner gave the layer to the same job")
        session.execute(update(Job).where(Job.id == other).values(state="failed"))
    with transaction(service.sessions) as session:
        again, left = retry_all(session, [number, other], "me", service.settings)
    assert other in again.job_ids
    assert f"job {other} makes layers of job {number} now" in left[number]
