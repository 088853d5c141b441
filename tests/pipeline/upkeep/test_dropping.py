"""Activations that their studies want gone are dropped when nothing needs them, and made again for whoever does."""

import threading
from typing import Any

import pytest
from sqlalchemy import select, text
from tests.pipeline.in_process import job_id, plan_small, run_jobs, run_study
from tests.pipeline.planning.planned import job_row, statuses
from tests.pipeline.upkeep.collecting import garbage
from tests.pipeline.upkeep.dropped import dropped, objects_of, set_of
from tests.small import all_results, bare_scoring, register_small
from tests.waiting import wait_for

from hsae.catalog import ActivationSet, ActivationShard, Job, JobEvent, transaction
from hsae.catalog.server.locks import DROP_LOCK, take_lock
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.control.studies import remove_study
from hsae.pipeline.upkeep.dropping import delete_some, drop_activations, drop_unneeded, is_anything_left
from hsae.pipeline.upkeep.integrity import find_lost, named_objects
from hsae.sae.config import SaeConfig
from hsae.store.objects import ObjectStore

OTHER_SAE = SaeConfig(kind="topk", k=2, expansion=2, n_steps=30)
DROP: dict[str, Any] = {
    "drop_after": "analyze",
    "extraction": ExtractionConfig(shard_images=2, batch_size=2),
    "layers": (1,),
}
KEEP = DROP | {"drop_after": None}


@pytest.fixture
def ready(service):
    register_small(service, n_classes=2)
    return service


def done(service, **changes):
    plan = plan_small(service, **(DROP | changes))
    assert {job["state"] for job in run_study(service, plan.study_id)} == {"succeeded"}
    return plan


def test_activations_go_once_every_job_that_reads_them_has_succeeded(ready):
    plan = plan_small(ready, **DROP)
    for kind in ("extract", "probe", "train"):
        assert run_jobs(ready, plan, kind) == ["succeeded"]
        assert dropped(ready) == []
    assert run_jobs(ready, plan, "analyze") == ["succeeded"]
    before, shards = all_results(ready), objects_of(ready, 1)
    drop_activations(ready.settings, "test")
    row = set_of(ready, 1)
    assert row.dropped_at <= row.freed_at
    assert objects_of(ready, 1) == {f"activations/{row.key}/manifest-{row.manifest_sha256[:16]}.json"} < shards
    after = all_results(ready)
    assert after.pop("activations") == []
    assert after == {name: rows for name, rows in before.items() if name != "activations"}
    assert run_jobs(ready, plan, "compare") == ["succeeded"]
    with transaction(ready.sessions) as session:
        assert set(session.scalars(select(Job.state))) == {"succeeded"}
        said = select(JobEvent.message).where(JobEvent.job_id == row.job_id, JobEvent.who == "test")
        assert session.scalars(said.order_by(JobEvent.id.desc())).first() == (
            f"the activations of layer 1 (set {row.id}) are dropped: every job that reads them has succeeded"
        )
        assert find_lost(ready.store, named_objects(session)) == []
    assert garbage(ready) == set()
    assert dropped(ready) == []


def test_a_study_that_keeps_them_keeps_them_for_all(ready):
    kept = done(ready, saes=(OTHER_SAE,), drop_after=None)
    done(ready)
    assert dropped(ready) == []
    with transaction(ready.sessions) as session:
        remove_study(session, kept.study_id)
    assert dropped(ready) == [set_of(ready, 1).id]


@pytest.mark.slow
def test_a_job_that_is_about_to_read_them_keeps_them(ready):
    done(ready)
    later = plan_small(ready, **DROP, saes=(OTHER_SAE,))
    assert dropped(ready) == []
    assert {job["state"] for job in run_study(ready, later.study_id)} == {"succeeded"}
    assert dropped(ready) == [set_of(ready, 1).id]


@pytest.mark.slow
def test_a_job_of_no_study_keeps_them_while_it_is_tried_again(ready):
    done(ready)
    other = done(ready, saes=(OTHER_SAE,))
    with transaction(ready.sessions) as session:
        remove_study(session, other.study_id)
    train = {"id": job_id(other, "train")}
    with transaction(ready.sessions) as session:
        session.execute(text("UPDATE job SET state = 'queued' WHERE id = :id"), train)
    assert dropped(ready) == []
    with transaction(ready.sessions) as session:
        session.execute(text("UPDATE job SET state = 'failed' WHERE id = :id"), train)
    assert dropped(ready) == [set_of(ready, 1).id]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_reader_without_success_keeps_them_for_its_next_attempt(ready, state):
    plan = done(ready)
    with transaction(ready.sessions) as session:
        session.execute(text("UPDATE job SET state = :state WHERE kind = 'probe'"), {"state": state})
    assert dropped(ready) == []
    assert run_jobs(ready, plan_small(ready, **DROP), "probe") == ["succeeded"]
    assert dropped(ready) == [set_of(ready, 1).id]
    assert job_row(ready, job_id(plan, "extract")).state == "succeeded"


@pytest.mark.slow
def test_the_latest_submit_of_a_study_decides(ready):
    done(ready, drop_after=None)
    assert dropped(ready) == []
    again = plan_small(ready, **DROP)
    assert again.n_queued == 0
    assert dropped(ready) == [set_of(ready, 1).id]


@pytest.mark.slow
def test_what_images_are_only_compared_by_stays(ready):
    done(ready, scoring=bare_scoring(embeddings="last"))
    assert dropped(ready) == [set_of(ready, 1).id]
    last = set_of(ready, 5)
    assert last.dropped_at is None
    assert len(objects_of(ready, 5)) > 1


class DyingStore(ObjectStore):
    """Its process is killed at the fourth deletion."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self._turns = iter(range(3))

    def delete(self, key):
        if next(self._turns, None) is None:
            raise KeyboardInterrupt
        super().delete(key)


@pytest.mark.slow
def test_a_deletion_that_was_killed_goes_on(ready):
    done(ready)
    n_objects = len(objects_of(ready, 1))
    (number,) = drop_unneeded(ready.sessions, "test")
    with pytest.raises(KeyboardInterrupt):
        delete_some(ready.sessions, DyingStore.from_settings(ready.settings))
    row = set_of(ready, 1)
    assert (row.id, row.dropped_at is None, row.freed_at) == (number, False, None)
    left = objects_of(ready, 1)
    assert len(left) == n_objects - 3
    assert len(garbage(ready)) == len(left) - 1  # no row names any of them but the manifest
    drop_activations(ready.settings, "test")
    assert len(objects_of(ready, 1)) == 1
    assert set_of(ready, 1).freed_at is not None
    assert not is_anything_left(ready.sessions)


@pytest.mark.slow
def test_a_deletion_that_was_killed_is_over_once_the_set_is_asked_for_again(ready):
    done(ready)
    shards, before = objects_of(ready, 1), all_results(ready)
    drop_unneeded(ready.sessions, "test")
    with pytest.raises(KeyboardInterrupt):
        delete_some(ready.sessions, DyingStore.from_settings(ready.settings))
    again = plan_small(ready, **KEEP)
    assert statuses(again)[0] == ("extract", "again")
    assert not delete_some(ready.sessions, ready.store)
    assert run_jobs(ready, again, "extract") == ["succeeded"]
    assert dropped(ready) == []
    assert objects_of(ready, 1) == shards
    assert all_results(ready) == before


def test_objects_go_some_at_a_time(ready):
    done(ready)
    n_objects = len(objects_of(ready, 1))
    drop_unneeded(ready.sessions, "test")
    assert delete_some(ready.sessions, ready.store, at_once=2)
    assert (len(objects_of(ready, 1)), set_of(ready, 1).freed_at) == (n_objects - 2, None)
    while delete_some(ready.sessions, ready.store, at_once=2):
        pass
    assert len(objects_of(ready, 1)) == 1


@pytest.mark.slow
def test_a_worker_drops_them_by_itself(ready, monkeypatch):
    done(ready)
    for name, value in ready.environment.items():
        monkeypatch.setenv(name, value)
    from hsae_worker import lifecycle  # here, because it reads the environment, once

    stopped = threading.Event()
    monkeypatch.setattr(lifecycle, "settings", ready.settings)
    monkeypatch.setattr(lifecycle, "_stopped", stopped)
    monkeypatch.setattr(lifecycle, "_DROP_SECONDS", 0.01)
    worker = threading.Thread(target=lifecycle._drop_activations)
    worker.start()
    try:
        wait_for(lambda: set_of(ready, 1).freed_at is not None)
    finally:
        stopped.set()
        worker.join(60)
    assert len(objects_of(ready, 1)) == 1


@pytest.mark.slow
def test_one_process_at_a_time(ready):
    done(ready)
    with transaction(ready.sessions) as session:
        take_lock(session, DROP_LOCK)
        assert drop_unneeded(ready.sessions, "test") == []
        assert not delete_some(ready.sessions, ready.store)
    assert len(dropped(ready)) == 1


@pytest.mark.slow
def test_an_extraction_that_runs_for_another_layer_keeps_its_hands_off(ready):
    """The set's maker is under way: it waits for the next time."""
    plan = done(ready)
    with transaction(ready.sessions) as session:
        session.execute(text("UPDATE job SET state = 'queued' WHERE id = :id"), {"id": job_id(plan, "extract")})
    assert dropped(ready) == []
    assert run_jobs(ready, plan, "extract") == ["succeeded"]
    assert len(dropped(ready)) == 1
    with transaction(ready.sessions) as session:
        assert session.scalars(select(ActivationShard)).all() == []
        assert session.scalars(select(ActivationSet.n_rows)).one() > 0
