"""Garbage collection, with a real database and a real store: what goes and what stays."""

import secrets

import pytest
from sqlalchemy import delete, select, text, update
from tests.pipeline.in_process import attempt, job_id, run_jobs
from tests.pipeline.upkeep.collecting import HOUR, KEY, collected, finished, garbage, objects, plan_layer
from tests.small import all_results, register_small

from hsae.catalog import ActivationShard, Analysis, Dataset, Job, Sae, transaction
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.stages.extract import extract
from hsae.pipeline.stages.train import train
from hsae.pipeline.upkeep.garbage import sweep


def test_a_finished_study_has_no_garbage_and_stays_whole(service):
    finished(service)
    before, results = objects(service), all_results(service)
    kinds = {key.split("/")[0] for key in before}
    assert kinds >= {"activations", "saes", "analyses", "datasets", "taxonomies"}
    assert collected(service) == set()
    assert objects(service) == before
    assert {job.status for job in plan_layer(service).jobs} == {"reused"}
    assert all_results(service) == results


def test_what_no_row_refers_to_goes_and_everything_else_stays(service):
    plan = finished(service)
    before = objects(service)
    activations, sae, analysis = (
        next(key for key in sorted(before) if key.startswith(f"{kind}/")).split("/")[1]
        for kind in ("activations", "saes", "analyses")
    )
    orphans = {
        f"activations/{activations}/shard-00000-{'0' * 16}.safetensors",
        f"activations/{activations}/manifest-{'0' * 16}.json",
        f"saes/{sae}/checkpoints/1-123.safetensors",
        f"saes/{sae}/sae-{'0' * 16}.safetensors",
        f"analyses/{analysis}/latents-{'0' * 16}.safetensors",
        f"activations/{KEY}/shard-00000-{'0' * 16}.safetensors",
        f"saes/{KEY}/sae-{'0' * 16}.safetensors",
        f"datasets/{KEY}/listing-{'0' * 16}.parquet",
        f"taxonomies/{KEY}.json",
        "logs/987654321/000001.jsonl",
        f"doctor/{secrets.token_hex(8)}",
    }
    kept = {f"logs/{plan.jobs[0].id}/000001.jsonl"}
    foreign = {"notes.txt", "backup/saes/1", f"saes/{'z' * 64}/sae.safetensors", "logs/mine/log.txt", "datasets/readme"}
    for key in orphans | kept | foreign:
        service.store.put(key, b"x" * 10)
    assert garbage(service) == orphans
    assert objects(service) == before | orphans | kept | foreign  # looking takes nothing away
    assert collected(service) == orphans
    assert objects(service) == before | kept | foreign
    assert collected(service) == set()
    assert {job.status for job in plan_layer(service).jobs} == {"reused"}


def test_what_nobody_knows_is_spared_while_it_is_young(service):
    finished(service)
    folder = next(key for key in objects(service) if key.startswith("saes/")).rsplit("/", 1)[0]
    known = f"{folder}/sae-{'0' * 16}.safetensors"
    young = {
        f"saes/{KEY}/sae-{'0' * 16}.safetensors",
        f"datasets/{KEY}/listing-{'0' * 16}.parquet",
        f"taxonomies/{KEY}.json",
        "logs/987654321/000001.jsonl",
    }
    for key in young | {known}:
        service.store.put(key, b"x")
    assert collected(service, HOUR) == {known}
    assert young <= objects(service)


@pytest.mark.slow
def test_the_sae_of_a_dropped_row_goes(service):
    plan = finished(service)
    before = objects(service)
    with transaction(service.sessions) as session:
        for table in ("latent", "layer_score", "node_score"):
            session.execute(text(f"DELETE FROM {table}"))
        session.execute(delete(Analysis))
        session.execute(delete(Sae))
    gone = collected(service)
    assert gone == {key for key in before if key.startswith(("saes/", "analyses/"))}
    # What is asked for again is made again.
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.kind != "extract").values(state="failed"))
    again = plan_layer(service)
    assert [(job.id, job.status) for job in again.jobs] == [
        (job.id, "reused" if job.kind == "extract" else "again") for job in plan.jobs
    ]
    assert run_jobs(service, again, "probe", "train", "analyze", "compare") == ["succeeded"] * (len(again.jobs) - 1)
    assert {key for key in objects(service) if not key.startswith("logs/")} >= gone


@pytest.mark.slow
def test_half_made_work_is_kept_for_the_next_attempt_unless_asked_for(make_service):
    service = make_service(checkpoint_seconds=0)
    register_small(service, n_classes=2)
    plan = plan_layer(service, extraction=ExtractionConfig(shard_images=2, batch_size=2))
    extraction, training = job_id(plan, "extract"), job_id(plan, "train")
    with pytest.raises(OSError, match="stopped"), attempt(service, extraction, stop_at=4) as given:
        extract(*given)
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == extraction).values(state="failed"))
    shards = objects(service)
    assert any("/shard-" in key for key in shards)
    assert collected(service) == set()
    partial = garbage(service, partial=True)
    assert partial == {key for key in shards if key.startswith("activations/")}
    assert collected(service, partial=True) == partial
    with transaction(service.sessions) as session:
        assert session.scalars(select(ActivationShard)).all() == []
        session.execute(update(Job).where(Job.id == extraction).values(state="queued"))
    assert run_jobs(service, plan, "extract") == ["succeeded"]

    with pytest.raises(OSError, match="stopped"), attempt(service, training, stop_at=200) as given:
        train(*given)
    checkpoints = {key for key in objects(service) if "/checkpoints/" in key}
    assert len(checkpoints) == 1
    with transaction(service.sessions) as session:
        session.execute(update(Job).where(Job.id == training).values(state="failed"))
    service.store.put(f"{next(iter(checkpoints))}x", b"stale")
    assert collected(service) == {f"{next(iter(checkpoints))}x"}
    assert collected(service, partial=True) == checkpoints
    with transaction(service.sessions) as session:
        assert session.get_one(Job, training).checkpoint is None
        session.execute(update(Job).where(Job.id == training).values(state="queued"))
    assert run_jobs(service, plan, "train", "analyze") == ["succeeded"] * 2


def test_a_listing_that_a_job_asks_for_is_kept(service):
    finished(service)
    (listing,) = [key for key in objects(service) if key.startswith("datasets/")]
    with transaction(service.sessions) as session:  # as another version of the Parquet library would write it
        session.execute(update(Dataset).values(listing_sha256="0" * 64))
    assert collected(service) == set()
    assert listing in objects(service)


def test_sweep_leaves_what_rows_name(service):
    plan = finished(service)
    before = objects(service)
    folders = {key.rsplit("/", 1)[0] + "/" for key in before if key.startswith(("activations/", "saes/", "analyses/"))}
    for folder in folders:
        service.store.put(f"{folder}orphan", b"x")
    with transaction(service.sessions) as session:
        session.get_one(Job, job_id(plan, "train"), with_for_update=True)
        assert sweep(session, service.store, sorted(folders)) == 3
    assert objects(service) == before
    with transaction(service.sessions) as session, pytest.raises(ValueError, match="no artifact's folder"):
        sweep(session, service.store, ["saes/"])
