"""Trainings that read shard by shard, in their jobs: split, cache, interruptions, lost shards, NaN."""

import pytest
import torch
from sqlalchemy import text
from tests.pipeline.in_process import TINY_SAE, attempt, job_id, run_jobs, run_study
from tests.small import few_images, quick_scoring, register, small_request

from hsae.catalog import transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.inputs.streamed_set import streamed_rows
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.stages.activation_reader import open_activation_set
from hsae.pipeline.stages.train import train
from hsae.sae.config import SaeConfig
from hsae.sae.training.trainer import train as train_sae
from hsae.store.keys import weights_key
from hsae.store.tensors import get_tensors

STREAMED = SaeConfig.parse({**TINY_SAE.model_dump(), "rows": "stream", "window_shards": 2, "batch_size": 10})


@pytest.fixture(scope="module")
def ready(make_service):
    service = make_service(max_skipped_share=0.2)
    register(service, "small", few_images(service.folder, 24))
    return service


def plan_streamed(service, **changes):
    request = small_request(
        layers=(3,), saes=(STREAMED,), extraction=ExtractionConfig(shard_images=9, batch_size=6, n_views=2),
        scoring=quick_scoring(n_shuffles=0, controls=("untrained",), embeddings="own"),
        **changes,
    )  # fmt: skip
    return submit(request, service.settings, service.sessions)


def stored_weights(service, key):
    with transaction(service.sessions) as session:
        (sha256,) = session.execute(text("SELECT weights_sha256 FROM sae WHERE key = :key"), {"key": key}).one()
    return sha256, get_tensors(service.store, weights_key(key, sha256), sha256=sha256)[0]


def forget_sae(service, number):
    with transaction(service.sessions) as session:
        session.execute(text("DELETE FROM analysis"))
        session.execute(text("DELETE FROM sae WHERE job_id = :id"), {"id": number})
        session.execute(text("UPDATE job SET state = 'queued', attempt = 0 WHERE id = :id"), {"id": number})


@pytest.fixture(scope="module")
def trained(ready):
    """A finished study, its training job and the weights that this made."""
    plan = plan_streamed(ready)
    jobs = run_study(ready, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, jobs
    (key,) = [job.key for job in plan.jobs if job.kind == "train"]
    return plan, job_id(plan, "train"), key, stored_weights(ready, key)


def test_a_job_makes_what_the_trainer_makes_of_the_same_shards(ready, trained):
    plan, number, _, (_, weights) = trained
    forget_sae(ready, number)
    with attempt(ready, number) as (request, context):
        _, manifest = open_activation_set(context, request.activation_key)
        assert len(manifest.shards) >= 5
        made = train_sae(request.sae, streamed_rows(context, manifest), device=torch.device("cpu"))
    for name, tensor in made.sae.to_tensors().items():
        assert torch.equal(weights[name], tensor), name
    assert run_jobs(ready, plan, "train") == ["succeeded"]


def test_an_attempt_that_ends_in_the_middle_of_a_window_goes_on_with_the_same_bits(ready, trained, tmp_path):
    plan, number, key, (sha256, _) = trained
    forget_sae(ready, number)
    ready.settings = ready.settings.model_copy(update={"checkpoint_seconds": 0.0, "shard_cache": tmp_path / "shards"})
    try:
        with (
            pytest.raises(OSError, match="stopped by the test"),
            attempt(ready, number, stop_at=130) as (request, context),
        ):
            train(request, context)
        with attempt(ready, number) as (request, context):
            assert context.checkpoint is not None
            train(request, context)
        assert stored_weights(ready, key)[0] == sha256
        assert list((tmp_path / "shards").iterdir())
    finally:
        ready.settings = ready.settings.model_copy(update={"checkpoint_seconds": 60.0, "shard_cache": None})
    assert run_jobs(ready, plan, "train") == ["succeeded"]


def test_a_lost_shard_is_made_again(ready, trained):
    plan, number, key, (sha256, _) = trained
    forget_sae(ready, number)
    with transaction(ready.sessions) as session:
        lost = session.scalars(text("SELECT object_key FROM activation_shard ORDER BY shard DESC LIMIT 1")).one()
    ready.store.delete(lost)
    assert run_jobs(ready, plan, "train") == ["waiting"]
    jobs = run_study(ready, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, jobs
    assert stored_weights(ready, key)[0] == sha256
