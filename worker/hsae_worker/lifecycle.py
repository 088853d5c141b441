"""What a worker does beside its tasks: it fixes what was lost, ends jobs of a lost child, hands back when it stops.

The worker's parent process does all of this; it never loads torch. Its child, one at a time, does the jobs.
"""

import ctypes
import logging
import mmap
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from billiard.exceptions import WorkerLostError
from celery.signals import task_failure, worker_process_init, worker_ready, worker_shutting_down

from hsae.catalog import connect, session_factory, transaction
from hsae.devices.shown import remember_gpu
from hsae.errors import HsaeError
from hsae.pipeline.queue import jobs
from hsae.pipeline.queue.reconcile import reconcile
from hsae.pipeline.upkeep.dropping import drop_activations
from hsae_worker.app import settings

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
# 30 s are what a supervisor gives; the rest is for handing back on behalf of a child that reached no checkpoint.
_HAND_BACK_SECONDS = 20.0
_EXIT_SECONDS = 5.0
_POLL_SECONDS = 0.2
_DROP_SECONDS = 30.0  # between two looks for activations that no study needs any more

WORKER = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
"""How the owner of every lease of this worker begins."""

# Memory that the parent and its children share. Children see at once that the worker is stopping, and the parent how
# often the kernel had killed for lack of memory when the latest job began.
_stopping = mmap.mmap(-1, 1)
_oom_kills_before = mmap.mmap(-1, 8)
_stopped = threading.Event()
_vmstat = Path("/proc/vmstat")
# Children are forked later: one after a loss of the driver still knows that there was a GPU.
remember_gpu()


def stop_requested() -> bool:
    """Whether this worker is stopping."""
    return _stopping[0] != 0


def pause(seconds: float) -> None:
    """Wait, unless the worker stops."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not stop_requested():
        time.sleep(_POLL_SECONDS)


def note_start() -> None:
    """A child begins a job."""
    _oom_kills_before[:] = _n_oom_kills().to_bytes(8, "little")


@worker_process_init.connect  # type: ignore[untyped-decorator]
def prepare_child(**_: Any) -> None:
    """Have the kernel kill this child when the worker is killed, so that no orphan keeps a GPU.

    SIGTERM is for the parent, which tells its child by `stop_requested`; supervisors send it to the whole group.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@worker_ready.connect  # type: ignore[untyped-decorator]
def start_reconciler(**_: Any) -> None:
    """For as long as the worker lives, look for expired leases and lost messages, and for activations to drop."""
    threading.Thread(target=_reconcile, name="reconciler", daemon=True).start()
    # By itself: to delete millions of objects takes long, and lost jobs must not wait for that.
    threading.Thread(target=_drop_activations, name="dropping", daemon=True).start()


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def begin_to_stop(**_: Any) -> None:
    """Tell the child to hand its job back, and see to it that the worker ends in any case."""
    if not stop_requested():
        _stopping[0] = 1
        _stopped.set()
        threading.Thread(target=_end_in_any_case, name="stopping", daemon=True).start()


@task_failure.connect  # type: ignore[untyped-decorator]
def on_lost_child(exception: BaseException, args: Any = (), **_: Any) -> None:
    """A child was killed in the middle of a job: end that attempt now rather than when its lease runs out."""
    if isinstance(exception, WorkerLostError):
        why = f"its process ended early ({' '.join(str(exception).split())})"
        if "SIGKILL" in why and _n_oom_kills() > int.from_bytes(_oom_kills_before[:], "little"):
            why = f"the kernel killed its process for lack of memory: give its worker more memory ({why})"
        # The worker may be on its way out: it waits for this.
        threading.Thread(target=_end_attempts, args=(why,), name="lost child").start()


def _end_attempts(why: str) -> None:
    def end(session: Any, lease: jobs.Lease) -> None:
        if psutil.pid_exists(int(lease.owner.rpartition(":")[2])):  # the next child may have a job by now
            return
        if stop_requested():  # most likely it was killed for that
            _hand_back(session, lease)
        else:
            jobs.retry_after_crash(session, lease, why, settings.retry_seconds)

    _for_each_lease(end)


def _end_in_any_case() -> None:
    """A child that has reached no checkpoint in time is killed, and its job handed back for it."""
    time.sleep(_HAND_BACK_SECONDS)
    log.warning("the job has reached no checkpoint in %g s: its process is killed", _HAND_BACK_SECONDS)
    for child in psutil.Process().children(recursive=True):
        child.kill()
    # With its child gone the worker ends, and waits for this thread.
    handing_back = threading.Thread(target=_for_each_lease, args=(_hand_back,), name="handing back")
    handing_back.start()
    end = time.monotonic() + _EXIT_SECONDS
    handing_back.join(_EXIT_SECONDS)
    time.sleep(max(0.0, end - time.monotonic()))
    os._exit(0)


def _hand_back(session: Any, lease: jobs.Lease) -> None:
    jobs.hand_back(session, lease, "handed back: its worker was stopped at no checkpoint")


def _for_each_lease(change: Callable[[Any, jobs.Lease], object]) -> None:
    engine = connect(settings)
    try:
        with transaction(session_factory(engine)) as session:
            for lease in jobs.held_by(session, WORKER + ":"):
                change(session, lease)
    except HsaeError as error:  # the lease will run out and tell the reconciler
        log.warning("%s", error)
    finally:
        engine.dispose()


def _n_oom_kills() -> int:
    """How often the kernel has killed for lack of memory since it was booted; 0 where it does not say."""
    try:
        fields = dict(line.split() for line in _vmstat.read_text().splitlines())
    except (OSError, ValueError):
        return 0
    return int(fields.get("oom_kill", 0))


def _reconcile() -> None:
    who = f"reconciler {WORKER}"
    while True:
        try:
            for job_id in reconcile(settings, who):
                log.info("job %d is ready: a message was sent", job_id)
        except HsaeError as error:
            log.warning("reconciler: %s", error)
        except Exception:
            log.exception("reconciler: this round failed")
        if _stopped.wait(settings.reconcile_seconds):
            return


def _drop_activations() -> None:
    while not _stopped.wait(_DROP_SECONDS):
        try:
            drop_activations(settings, f"upkeep {WORKER}", stop_requested)
        except HsaeError as error:
            log.warning("activations are not dropped yet: %s", error)
        except Exception:
            log.exception("activations: this round failed")
