"""SIGKILL of the worker, of its child or of a server at the moment of publishing.

Locks that the test takes in Postgres stop the child exactly there.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest
import torch
from sqlalchemy import text
from tests.conftest import Service
from tests.faults.standing import FOLDERS, IN_TURN, KINDS, Standing, assert_no_orphans
from tests.small import all_results, mapped_request, register_small, submit_mapped, wait_until_done
from tests.waiting import end_writer, events_of, let_leases_expire, rows_of, wait_for, wait_for_writer, writers_stopped

from hsae.catalog import transaction
from hsae.devices.hardware import hardware_of
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.queue.notifier import Notifier

_PUBLISHED_IN = {
    "extract": "activation_set",
    "train": "sae",
    "analyze": "analysis",
    "compare": "comparison",
    "probe": "class_probe",
    "map": "map_set",
}
_N_PUBLISHED = {
    "extract": "SELECT count(*) AS n FROM activation_set WHERE job_id = :id AND manifest_sha256 IS NOT NULL",
    "train": "SELECT count(*) AS n FROM sae WHERE job_id = :id",
    "analyze": "SELECT count(*) AS n FROM analysis WHERE job_id = :id",
    "compare": "SELECT count(*) AS n FROM comparison WHERE job_id = :id",
    "probe": "SELECT count(*) AS n FROM class_probe WHERE job_id = :id",
    "map": "SELECT count(*) AS n FROM map_set WHERE job_id = :id",
}
_BEGUN = "UPDATE activation_set SET hardware = :hardware WHERE hardware IS NULL"
_PUT_OFF = """
UPDATE job SET not_before = now() + interval '1 hour'
WHERE kind = :kind AND id > (SELECT min(id) FROM job WHERE kind = :kind)
"""
_PUT_OFF_NO_LONGER = """
UPDATE job SET not_before = NULL, notified_at = NULL WHERE not_before > now() + interval '30 minutes'
"""


def _note_hardware(service: Service) -> None:
    """The kind of processor is written with the first shard; what is to be met here is the publication."""
    with transaction(service.sessions) as session:
        session.execute(text(_BEGUN), {"hardware": hardware_of(torch.device("cpu"))})


@contextmanager
def _submitted_and_stopped(standing: Standing, kind: str, table: str) -> Iterator[Plan]:
    """The small request anew, from this stage on, whose first job waits once it is about to write into the table.

    The others of its kind are put off: while it pauses between two attempts, one of them would wait in its place.
    """
    service = standing.service
    standing.forget(kind)
    plan = submit(mapped_request(), service.settings, service.sessions)
    _note_hardware(service)
    with writers_stopped(service, table):  # not before the submit, which may write into it too
        with transaction(service.sessions) as session:
            session.execute(text(_PUT_OFF), {"kind": kind})
        Notifier(service.settings).notify(plan.to_notify)
        yield plan
        with transaction(service.sessions) as session:
            session.execute(text(_PUT_OFF_NO_LONGER))


def _let_publish(held: ExitStack, service: Service) -> None:
    """Let the job go on until it is published and about to succeed: only then is its history written into."""
    with held.pop_all():
        held.enter_context(writers_stopped(service, "job_event"))


def _kill_child_at(standing: Standing, table: str) -> None:
    service = standing.service
    wait_for_writer(service, table)
    children = psutil.Process(service.workers[0].pid).children()
    assert len(children) == 1
    children[0].kill()
    psutil.wait_procs(children, timeout=10)


def _wait_for_success(service: Service, kind: str) -> None:
    succeeded = "SELECT 1 FROM job WHERE kind = :kind AND state = 'succeeded'"
    wait_for(lambda: rows_of(service, succeeded, kind=kind), 240, service.logs)


def _n_sets(plan: Plan) -> int:
    """Activation sets that its extraction makes: the last layer's too, for the embeddings."""
    (layers,) = (job.layers for job in plan.jobs if job.kind == "extract")
    return len(layers)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_right_before_and_right_after_the_commit(standing, kind):
    service = standing.service
    table = _PUBLISHED_IN[kind]
    with ExitStack() as held:
        plan = held.enter_context(_submitted_and_stopped(standing, kind, table))
        _kill_child_at(standing, table)
        (job,) = rows_of(service, "SELECT id, attempt FROM job WHERE kind = :kind AND state = 'running'", kind=kind)
        assert job["attempt"] == 1
        # Every object is stored, and none counts.
        assert kind not in FOLDERS or list(service.store.list(FOLDERS[kind]))
        assert rows_of(service, _N_PUBLISHED[kind], id=job["id"]) == [{"n": 0}]
        # The next attempt, which may have little left to do, is kept there too.
        end_writer(service, table)
        wait_for_writer(service, table)
        _let_publish(held, service)
        _kill_child_at(standing, "job_event")
        n_published = rows_of(service, _N_PUBLISHED[kind], id=job["id"])[0]["n"]
        assert n_published == (_n_sets(plan) if kind == "extract" else 1)
    jobs = {job["id"]: job for job in standing.check_finished(plan)}
    assert jobs[job["id"]]["attempt"] == 3
    reasons = [reason for reason, _ in events_of(service, job["id"]) if reason not in ("submitted", "released")]
    # Until the history was let go the dead child's transaction kept the job's row, and the lease may have run out.
    found = ["retried" if reason == "lease_expired" else reason for reason in reasons]
    assert found == ["claimed", "retried"] * 2 + ["claimed", "succeeded"], reasons


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("extract", "activation_set"),
        ("train", "sae"),
        ("analyze", "latent"),
        ("compare", "comparison_score"),
        ("probe", "class_probe_level"),
        ("map", "latent_map"),
    ],
)
def test_postgres_killed_in_the_middle_of_the_transaction(standing, kind, table):
    """An analysis is killed while it loads its scores by COPY."""
    with _submitted_and_stopped(standing, kind, table) as plan:
        wait_for_writer(standing.service, table)
        standing.end_server("postgres")
        standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, standing.service.logs()
    assert sum(job["outages"] for job in jobs) == 1


def test_worker_killed_at_the_commit_and_another_publishes(make_service, undisturbed):
    """In every stage, one worker after the other."""
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=0.2)
    register_small(service)
    plan = submit_mapped(service)
    _note_hardware(service)
    killed = set()
    for kind in IN_TURN:
        with writers_stopped(service, _PUBLISHED_IN[kind]):
            worker = service.start_worker()
            wait_for_writer(service, _PUBLISHED_IN[kind])
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            (job,) = rows_of(service, "SELECT id FROM job WHERE kind = :kind AND state = 'running'", kind=kind)
            assert rows_of(service, _N_PUBLISHED[kind], id=job["id"]) == [{"n": 0}]
        killed.add(job["id"])
        let_leases_expire(service)
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {done["state"] for done in jobs} == {"succeeded"}, service.logs()
    assert {done["id"]: done["attempt"] for done in jobs} == {done["id"]: 1 + (done["id"] in killed) for done in jobs}
    assert all_results(service) == expected
    assert_no_orphans(service)


def test_broker_killed_at_the_commit_of_every_stage(standing):
    """Only the rows are missing, and they need no broker."""
    service = standing.service
    plan = standing.submit_from("extract")
    for kind in IN_TURN:
        with writers_stopped(service, _PUBLISHED_IN[kind]):
            standing.stack.start()  # the next stage needs its broker
            wait_for_writer(service, _PUBLISHED_IN[kind])
            standing.end_server("valkey")
        _wait_for_success(service, kind)
    standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, service.logs()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_store_killed_at_the_commit(standing, moment, kind):
    """What is stored survives the server, and what still has to be asked of it is asked until it answers.

    That is the manifest of an extraction's next layer, or the deletion of a training's checkpoints.
    """
    service = standing.service
    with ExitStack() as held:
        plan = held.enter_context(_submitted_and_stopped(standing, kind, _PUBLISHED_IN[kind]))
        wait_for_writer(service, _PUBLISHED_IN[kind])
        if moment == "after":
            _let_publish(held, service)
            wait_for_writer(service, "job_event")
        (job,) = rows_of(service, "SELECT id FROM job WHERE kind = :kind AND state = 'running'", kind=kind)
        (published,) = rows_of(service, _N_PUBLISHED[kind], id=job["id"])
        assert bool(published["n"]) == (moment == "after")
        standing.end_server("seaweedfs")
    if moment == "after" or kind not in ("extract", "train"):  # nothing more is asked of the server
        _wait_for_success(service, kind)
    standing.stack.start()
    jobs = standing.check_finished(plan)
    assert {job["attempt"] for job in jobs} == {1}, service.logs()
