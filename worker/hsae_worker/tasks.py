"""The tasks: a message's job id goes to the pipeline, which knows the rest."""

import gc
import logging
import os
import signal
import sys

from hsae.errors import UserError
from hsae.pipeline.queue.notifier import RUN_JOB
from hsae_worker import lifecycle
from hsae_worker.app import app, settings

log = logging.getLogger(__name__)
_UNFIT_SECONDS = 30.0  # a worker that cannot work takes so few messages that the others get theirs


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: int) -> str:
    """Run one job; its outcome is kept in Postgres."""
    if type(job_id) is not int:
        log.error("a message without a job's id was dropped")
        return "not a job"
    # Imported in the child, so that the parent stays small and never touches CUDA.
    from hsae.pipeline.execution import run

    lifecycle.note_start()
    owner = f"{lifecycle.WORKER}:{os.getpid()}"
    try:
        outcome = run.run_job(job_id, settings, owner, stop_requested=lifecycle.stop_requested, on_stuck=_die)
    except UserError as error:
        log.error("job %d is left to other workers: %s", job_id, error)
        lifecycle.pause(_UNFIT_SECONDS)
        if _uses_gpu():
            _die()  # a driver that went away between two jobs, and came back, works in a new process alone
        return "left to others"
    if outcome in (run.CRASHED, run.CRASHED_AND_QUEUED) and _uses_gpu():
        _die()  # after some errors no CUDA call works any more in this process
    _free_gpu_memory()
    return outcome


def _die() -> None:
    """End this child; the worker starts another."""
    os.kill(os.getpid(), signal.SIGKILL)


def _uses_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


def _free_gpu_memory() -> None:
    if _uses_gpu():
        torch = sys.modules["torch"]
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
