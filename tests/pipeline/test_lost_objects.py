"""Objects that a disk lost, and clean-ups in odd moments: what is needed is made again, what is healthy stays."""

from datetime import timedelta

import pytest
from sqlalchemy import select, text, update
from tests.pipeline.in_process import TINY_SAE, job_id, register_small, run_jobs
from tests.small import small_request

from hsae.catalog import ActivationSet, ActivationShard, Analysis, Job, transaction
from hsae.errors import UserError
from hsae.pipeline.control import cancel, retry_all
from hsae.pipeline.export import export_analysis
from hsae.pipeline.gc import find_garbage
from hsae.pipeline.plan import submit
from hsae.pipeline.requests import ExtractionConfig, ScoringConfig


def _submit(service, *layers: int):
    request = small_request(
        layers=layers,
        saes=(TINY_SAE,),
        extraction=ExtractionConfig(shard_images=8, batch_size=8),
        scoring=ScoringConfig(embeddings="own"),
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


def test_a_lost_shard_of_one_layer_costs_the_other_layers_nothing(service):
    register_small(service, n_classes=3)
    plan = _submit(service, 1, 3)
    assert run_jobs(service, plan, "extract") == ["succeeded"]
    with transaction(service.sessions) as session:
        rows = session.execute(
            select(ActivationSet.layer, ActivationShard.object_key).join(
                ActivationShard, ActivationShard.activation_set_id == ActivationSet.id
            )
        ).all()
    before = sorted(service.store.list("activations/"))
    lost = next(key for layer, key in rows if layer == 1)
    service.store.delete(lost)
    first, *_ = (job.id for job in plan.jobs if job.kind == "train")
    assert "failed" in run_jobs(service, plan, "train")
    assert not [key for key in _garbage(service) if "/shard-" in key]  # but the manifest, which is written again
    with transaction(service.sessions) as session:
        assert session.query(ActivationShard).count() == len(rows) - 1
    again = _submit(service, 1, 3)
    assert set(run_jobs(service, again)) <= {"succeeded", "not queued"}
    assert sorted(service.store.list("activations/")) == before
    with transaction(service.sessions) as session:
        assert set(session.scalars(select(Job.state))) == {"succeeded"}
    assert first


def test_lost_objects_of_an_analysis_are_made_again_under_the_same_rows(service, tmp_path):
    register_small(service, n_classes=3)
    plan = _submit(service, 1)
    assert run_jobs(service, plan) == ["succeeded"] * 4
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
    assert run_jobs(service, plan) == ["succeeded"] * 4
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
