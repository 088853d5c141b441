"""SIGKILL of a worker in stages that the small request has no job of: parts of an extraction, interventions, names."""

import os
import signal
from contextlib import ExitStack

from tests.small import all_results, bare_scoring, register_small, small_request, wait_until_done
from tests.waiting import end_writer, has_waiting_writer, let_leases_expire, rows_of, wait_for, writers_stopped

from hsae.demo import clip_folder
from hsae.extraction.config import ExtractionConfig
from hsae.interventions.config import InterveneSettings
from hsae.pipeline.planning.submit import Plan, submit
from hsae.pipeline.queue.notifier import Notifier
from hsae.sae.config import SaeConfig
from hsae.split_config import SplitConfig
from hsae.text.config import NameSettings

_LAST_TABLE = {"part": "activation_shard", "intervene": "intervention_set", "names": "name_set"}
"""What a job of each kind writes at its end, or a part at the end of its first shard."""
_RUNNING = "SELECT id FROM job WHERE kind = :kind AND state = 'running'"
_BIRDS = InterveneSettings(
    nodes=("bird.n.01",), choose="selectivity", max_density=1.0, n_shuffles=9, n_random=1, label_effects=4, steer=4
)


def _service(make_service):
    service = make_service(extraction_part_images=60, retry_seconds=0.5)
    register_small(service, n_classes=30)
    return service


def _submitted(service) -> Plan:
    """A study of four parts, or more, one SAE, its interventions, and its latents' names."""
    request = small_request(
        layers=(3,),
        saes=(SaeConfig(kind="topk", k=8, expansion=2, n_steps=60),),
        extraction=ExtractionConfig(shard_images=30, batch_size=10),
        scoring=bare_scoring(),
        split=SplitConfig(),
        own={"intervene": _BIRDS, "names": NameSettings(by=str(clip_folder()), n_shuffles=9, images=2, latents=10)},
    )
    plan = submit(request, service.settings, service.sessions)
    Notifier(service.settings).notify(plan.to_notify)
    return plan


def test_a_worker_is_killed_in_a_part_in_an_intervention_and_in_names_and_the_bits_stay(make_service):
    undisturbed = _service(make_service)
    undisturbed.start_worker()
    jobs = wait_until_done(undisturbed, _submitted(undisturbed).study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, undisturbed.logs()
    expected = all_results(undisturbed)
    assert all(expected[name] for name in ("interventions", "label effects", "steerability", "names"))
    undisturbed.stop_workers()

    service = _service(make_service)
    plan = _submitted(service)
    killed = set()
    with ExitStack() as part_kept:
        killed.add(_kill_one_of(service, {"part": part_kept}))
    with ExitStack() as one, ExitStack() as other:
        kept = {"intervene": one, "names": other}  # which of them a worker takes first is not fixed
        killed |= {_kill_one_of(service, kept), _kill_one_of(service, kept)}
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert {job["id"]: job["attempt"] for job in jobs} == {job["id"]: 1 + (job["id"] in killed) for job in jobs}
    assert all_results(service) == expected


def _kill_one_of(service, kept: dict[str, ExitStack]) -> int:
    """Start a worker and kill it at the end of the first job of these kinds, which is taken off them; the job's id.

    Args:
        service: with their jobs to do.
        kept: by kind what keeps its jobs from their end while it is open; it is closed after the kill.
    """
    for kind, until in kept.items():
        until.enter_context(writers_stopped(service, _LAST_TABLE[kind]))
    worker = service.start_worker()
    caught: list[str] = []

    def is_caught() -> bool:
        caught[:] = [kind for kind in kept if has_waiting_writer(service, _LAST_TABLE[kind])]
        return bool(caught)

    wait_for(is_caught, 300, service.logs)
    (kind,) = caught
    ((job_id,),) = [row.values() for row in rows_of(service, _RUNNING, kind=kind)]
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    end_writer(service, _LAST_TABLE[kind])
    for until in kept.values():
        until.close()
    del kept[kind]
    assert rows_of(service, "SELECT state FROM job WHERE id = :id", id=job_id) == [{"state": "running"}]
    let_leases_expire(service)
    return int(job_id)
