"""Garbage collection beside submits, jobs and workers: what is in use stays."""

import threading

import pytest
from sqlalchemy import select, text, update
from tests.pipeline.in_process import job_id
from tests.pipeline.upkeep.collecting import HOUR, KEY, NOW, collected, finished, objects, plan_layer
from tests.small import link_classes, register, register_small

from hsae.catalog import ActivationSet, Job, transaction
from hsae.catalog.server.locks import SUBMIT_LOCK
from hsae.pipeline.queue import jobs
from hsae.pipeline.upkeep.garbage import collect, find_garbage, sweep


@pytest.mark.parametrize("state", ["waiting", "queued", "running"])
def test_a_live_jobs_folder_is_left_alone(service, state):
    register_small(service, n_classes=2)
    plan = plan_layer(service)
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state=state))
        (activations,) = session.scalars(select(ActivationSet.key))
        keys = dict(session.execute(select(Job.kind, Job.key)).all())
    live = {
        f"activations/{activations}/shard-00000-{'0' * 16}.safetensors",
        f"saes/{keys['train']}/checkpoints/1-1.safetensors",
        f"analyses/{keys['analyze']}/latents-{'0' * 16}.safetensors",
    }
    for key in live:
        service.store.put(key, b"x")
    assert collected(service) == set()
    assert live <= objects(service)
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state="cancelled"))
    assert collected(service) == live
    assert [job.status for job in plan_layer(service).jobs] == ["again"] * len(plan.jobs)


def test_a_job_that_is_queued_between_looking_and_deleting_loses_nothing(service):
    register_small(service, n_classes=2)
    plan_layer(service)
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state="cancelled"))
        (key,) = session.scalars(select(ActivationSet.key))
    shard = f"activations/{key}/shard-00000-{'0' * 16}.safetensors"
    service.store.put(shard, b"x")
    found = list(find_garbage(service.sessions, service.store, min_age=NOW))
    assert [listed.key for folder in found for listed in folder.objects] == [shard]
    plan_layer(service)
    (deleted,) = collect(service.sessions, service.store, found, min_age=NOW)
    assert deleted.objects == ()
    assert shard in objects(service)


def test_a_job_in_somebody_elses_hands_is_left_for_the_next_time(service):
    plan = finished(service)
    folder = next(key for key in objects(service) if key.startswith("saes/")).rsplit("/", 1)[0]
    orphan = f"{folder}/sae-{'0' * 16}.safetensors"
    service.store.put(orphan, b"x")
    with transaction(service.sessions) as session:
        session.execute(select(Job).where(Job.id == job_id(plan, "train")).with_for_update())
        assert collected(service) == set()
    assert collected(service) == {orphan}


def test_a_submit_waits_until_a_folder_is_cleaned(service):
    finished(service)
    done = threading.Event()
    with transaction(service.sessions) as session:
        session.execute(text("SELECT pg_advisory_xact_lock(hashtext(:key))"), {"key": SUBMIT_LOCK})
        cleaner = threading.Thread(target=lambda: (collected(service), done.set()))
        service.store.put(f"saes/{KEY}/sae-{'0' * 16}.safetensors", b"x")
        cleaner.start()
        assert not done.wait(1.0)  # it takes turns with submits
    cleaner.join(30)
    assert done.is_set()


def test_a_data_set_that_is_being_registered_is_safe(service):
    images = link_classes(service.folder, 2)
    register(service, "small", images)
    with transaction(service.sessions) as session:  # as if the row were not committed yet
        session.execute(text("DELETE FROM dataset_node; DELETE FROM dataset_class; DELETE FROM dataset"))
    stored = objects(service)
    assert collected(service, HOUR) == set()
    assert collected(service) == stored
    register(service, "small", images)
    assert objects(service) == stored


def test_sweep_leaves_an_artifact_that_another_job_makes_by_now(service):
    register_small(service, n_classes=2)
    first = plan_layer(service, layers=(1, 3))
    with transaction(service.sessions) as session:
        session.execute(update(Job).values(state="cancelled"))
    plan_layer(service, layers=(1,))
    with transaction(service.sessions) as session:
        keys = dict(session.execute(select(ActivationSet.layer, ActivationSet.key)).all())
    shards = {layer: f"activations/{key}/shard-00000-{'0' * 16}.safetensors" for layer, key in keys.items()}
    for key in shards.values():
        service.store.put(key, b"x")
    with transaction(service.sessions) as session:
        session.get_one(Job, job_id(first, "extract"), with_for_update=True)
        assert sweep(session, service.store, [f"activations/{key}/" for key in keys.values()]) == 1
    assert shards[1] in objects(service)
    assert shards[3] not in objects(service)


def test_a_worker_that_claims_waits_for_the_clean_up(service):
    """A claim changes the job's row, which the clean-up of its folder holds."""
    register_small(service, n_classes=2)
    plan = plan_layer(service)
    number = job_id(plan, "extract")
    claims = []

    def claim():
        with transaction(service.sessions) as session:
            claims.append(jobs.claim(session, number, "test", 60))

    with transaction(service.sessions) as session:
        session.get_one(Job, number, with_for_update=True)
        claimer = threading.Thread(target=claim)
        claimer.start()
        claimer.join(0.5)
        assert claims == []
    claimer.join(30)
    assert len(claims) == 1
