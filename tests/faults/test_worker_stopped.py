"""A worker that is told to stop, suspended, starved of memory or poisoned: nothing is lost, nothing runs twice."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.faults.standing import FOLDERS
from tests.small import all_results, register_small, submit_mapped, submit_small, wait_until_done
from tests.waiting import (
    end_idle_transactions,
    events_of,
    let_leases_expire,
    rows_of,
    wait_for,
    wait_until_running,
    wait_until_under_way,
)

from hsae.catalog import transaction
from hsae.pipeline.control.jobs import cancel, retry
from hsae.pipeline.queue.notifier import Notifier
from hsae.sae.config import SaeConfig


def _job(service, job_id: int) -> dict:
    (row,) = rows_of(service, "SELECT * FROM job WHERE id = :id", id=job_id)
    return row


def test_sigterm_hands_the_job_back_at_no_cost(make_service, undisturbed):
    """In every stage, to one worker after the other."""
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=3600)
    register_small(service)
    plan = submit_mapped(service)
    for kind in ("extract", "train", "analyze"):
        worker = service.start_worker()
        job_id = wait_until_under_way(service, kind)
        # To the whole group, as systemd and terminals do it.
        os.killpg(worker.pid, signal.SIGTERM)
        assert worker.wait(240) == 0, service.logs()
        job = _job(service, job_id)
        assert (job["state"], job["attempt"], job["owner"]) == ("queued", 0, None), service.logs()
        assert events_of(service, job_id)[-1] == ("handed_back", "queued")
        assert (job["checkpoint"] is not None) == (kind == "train")
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {(job["state"], job["attempt"]) for job in jobs} == {("succeeded", 1)}, service.logs()
    assert all_results(service) == expected


def test_a_job_that_reaches_no_checkpoint_is_handed_back_for_it(make_service):
    service = make_service()
    register_small(service)
    submit_small(service)
    worker = service.start_worker(HSAE_TEST_HANG="1", PYTHONPATH=str(_hanging_pillow(service.folder)))
    job_id = wait_until_running(service, "extract")
    wait_for(lambda: "hanging" in service.logs())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(240) == 0, service.logs()  # it gives its child 20 s, and itself 5 s more
    assert events_of(service, job_id)[-1] == ("handed_back", "queued")
    assert _job(service, job_id)["attempt"] == 0


def _hanging_pillow(folder: Path) -> Path:
    return _site(
        folder,
        "import PIL.Image, time\n"
        "def hang(*a, **k):\n    print('hanging', flush=True)\n    time.sleep(3600)\n"
        "PIL.Image.open = hang\n",
    )


# Not imported at once: torch in a worker's parent, whose children are forks of it, may leave them a lock that nobody
# opens. Where a job loads the module, it gets the poison.
POISON = """
import importlib.util, os, signal, sys

class Poisoner:
    def find_spec(self, name, path, target=None):
        if name != "hsae.extraction.prepare":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        plain = spec.loader.exec_module
        def exec_module(module):
            plain(module)
            call = module.Preparation.__call__
            def poisoned(self, listed):
                if 2 in self.backbone.layers:
                    os.kill(os.getpid(), signal.SIGSEGV)
                return call(self, listed)
            module.Preparation.__call__ = poisoned
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Poisoner())
"""


def _site(folder: Path, code: str) -> Path:
    """A folder whose `sitecustomize` runs `code` in every Python process that has it on its path."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(code)
    return site


def test_a_lost_child_is_noticed_at_once_and_named(make_service, undisturbed):
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=0.2, lease_seconds=3600)
    register_small(service)
    plan = submit_mapped(service)
    worker = service.start_worker()
    job_id = wait_until_under_way(service, "train")
    for child in psutil.Process(worker.pid).children():
        child.kill()
    jobs = wait_until_done(service, plan.study_id)  # the lease alone would take an hour
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert all_results(service) == expected
    assert ("retried", "queued") in events_of(service, job_id)
    (message,) = [row["message"] for row in rows_of(
        service, "SELECT message FROM job_event WHERE job_id = :id AND reason = 'retried'", id=job_id)]  # fmt: skip
    assert "signal 9 (SIGKILL)" in message


@pytest.fixture
def small_memory(tmp_path_factory):
    """A memory cgroup of 700 MB (version 1 or 2): `join(pid)` puts a process into it."""
    for parent in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        group = parent / f"hsae-test-{os.getpid()}"
        limit = "memory.limit_in_bytes" if parent.name == "memory" else "memory.max"
        try:
            group.mkdir()
            (group / limit).write_text(str(700 * 2**20))
        except OSError:
            if group.is_dir():
                group.rmdir()
            continue
        swap = group / ("memory.memsw.limit_in_bytes" if parent.name == "memory" else "memory.swap.max")
        if swap.exists() and parent.name != "memory":
            swap.write_text("0")
        yield group
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        wait_for(lambda group=group: not (group / "cgroup.procs").read_text().strip())  # type: ignore[misc]
        group.rmdir()
        return
    pytest.skip("needs the right to make a memory cgroup")


def test_a_child_that_the_kernel_kills_for_memory_fails_with_that_reason(make_service, small_memory):
    service = make_service(max_attempts=2, lease_seconds=3600)
    register_small(service)
    plan = submit_small(service, layers=(1,))
    hog = _site(service.folder, "import PIL.Image\nopened = []\ndef hog(*a, **k):\n"
                "    opened.append(bytearray(2**30))\n    opened[-1][::4096] = b'x' * 2**18\n"
                "PIL.Image.open = hog\n")  # fmt: skip
    worker = service.start_worker(PYTHONPATH=str(hog), GLIBC_TUNABLES="")
    wait_for(lambda: psutil.Process(worker.pid).children(), message=service.logs)
    for process in (worker.pid, *(child.pid for child in psutil.Process(worker.pid).children())):
        (small_memory / "cgroup.procs").write_text(str(process))
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"failed"}, service.logs()
    assert "for lack of memory" in jobs[0]["error"], service.logs()
    assert jobs[0]["attempt"] == 2
    assert worker.poll() is None


@pytest.mark.parametrize("kind", ["extract", "train", "analyze"])
def test_a_suspended_worker_that_wakes_after_its_lease_writes_nothing(make_service, undisturbed, kind):
    expected, _ = undisturbed
    service = make_service(checkpoint_seconds=0.2)
    register_small(service)
    plan = submit_mapped(service)
    sleeper = service.start_worker()
    job_id = wait_until_under_way(service, kind)
    if kind == "analyze":
        wait_for(lambda: "scoring" in service.logs())
    os.killpg(sleeper.pid, signal.SIGSTOP)
    asleep = _job(service, job_id)["owner"]
    end_idle_transactions(service)
    let_leases_expire(service)
    service.start_worker()
    jobs = wait_until_done(service, plan.study_id)
    assert {job["state"] for job in jobs} == {"succeeded"}, service.logs()
    assert all_results(service) == expected
    objects = sorted(service.store.list(FOLDERS[kind]))
    os.killpg(sleeper.pid, signal.SIGCONT)
    wait_for(lambda: "no longer this worker's" in service.logs() or "this worker's was" in service.logs())
    os.killpg(sleeper.pid, signal.SIGTERM)  # what it still has to write is written when it ends
    assert sleeper.wait(120) == 0, service.logs()
    assert all_results(service) == expected
    assert sorted(service.store.list(FOLDERS[kind])) == objects
    by_sleeper = rows_of(
        service, "SELECT reason FROM job_event WHERE job_id = :id AND who = :who", id=job_id, who=asleep
    )
    assert [row["reason"] for row in by_sleeper if row["reason"] != "released"] == ["claimed"]


def test_a_poisoned_job_fails_after_its_attempts_and_its_worker_lives_on(make_service):
    service = make_service(max_attempts=3, lease_seconds=3600)
    register_small(service)
    poison = _site(service.folder, POISON)
    worker = service.start_worker(PYTHONPATH=str(poison))
    poisoned = wait_until_done(service, submit_small(service, layers=(2,)).study_id)
    assert {job["state"] for job in poisoned} == {"failed"}, service.logs()
    assert poisoned[0]["attempt"] == 3
    assert "signal 11 (SIGSEGV)" in poisoned[0]["error"]
    assert "attempt 3 of 3" in poisoned[0]["error"]
    sound = wait_until_done(service, submit_small(service, layers=(1,)).study_id)
    assert {job["state"] for job in sound} == {"succeeded"}, service.logs()
    assert worker.poll() is None


def test_a_busy_worker_answers_and_its_parent_never_loads_torch(make_service):
    service = make_service()
    register_small(service)
    plan = submit_small(service)
    worker = service.start_worker()
    wait_until_running(service, "train")
    wait_for(lambda: len(Notifier(service.settings).workers()) == 1, message=service.logs)
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "libtorch" not in maps
    (child,) = psutil.Process(worker.pid).children()
    assert "libtorch" in Path(f"/proc/{child.pid}/maps").read_text()
    wait_until_done(service, plan.study_id)


@pytest.mark.parametrize("keep", [False, True])
def test_cancelling_a_running_job_stops_it_within_seconds(make_service, keep):
    service = make_service(checkpoint_seconds=0.2, lease_seconds=3600)
    register_small(service)
    plan = submit_small(service, layers=(1,), saes=(SaeConfig(kind="topk", k=8, expansion=4, n_steps=1500),))
    service.start_worker()
    job_id = wait_until_running(service, "train")
    wait_for(lambda: _job(service, job_id)["checkpoint"] is not None, message=service.logs)
    done = cancel(service.sessions, service.store, [job_id], "tests", keep=keep)
    assert done.job_ids == (job_id, job_id + 1, job_id + 2)
    states = {job.kind: _job(service, job.id)["state"] for job in plan.jobs if job.kind != "probe"}
    assert states == {"extract": "succeeded", "train": "cancelled", "analyze": "cancelled", "compare": "cancelled"}
    wait_for(lambda: f"job {job_id}: cancelled" in service.logs(), 60, service.logs)
    prefix = f"saes/{_job(service, job_id)['key']}/"
    wait_for(lambda: len(list(service.store.list(prefix))) == keep, message=service.logs)
    assert (_job(service, job_id)["checkpoint"] is not None) == keep
    with transaction(service.sessions) as session:
        again = retry(session, [job_id], "tests", service.settings)
    assert again.job_ids == (job_id, job_id + 1, job_id + 2)
    Notifier(service.settings).notify(again.notifications)
    jobs = wait_until_done(service, plan.study_id)
    assert {(job["state"], job["attempt"]) for job in jobs} == {("succeeded", 1)}, service.logs()
    assert ("going on from checkpoint" in service.logs()) == keep


def test_higher_priority_runs_first(make_service):
    service = make_service()
    register_small(service)
    low = submit_small(service, layers=(0,), priority=0)
    high = submit_small(service, layers=(2,), priority=9)
    service.start_worker()
    wait_until_done(service, low.study_id)
    wait_until_done(service, high.study_id)
    # Both need the last layer's activations, for the embeddings: that extraction is one job.
    first, last = (next(job.id for job in plan.jobs if job.kind == "train") for plan in (high, low))
    assert _job(service, first)["started_at"] < _job(service, last)["started_at"]
