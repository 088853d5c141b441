"""The tasks: a message's job id goes to the pipeline, which knows the rest."""

import gc
import logging
import os
import signal
import sys

from hsae.pipeline.doorbell import RUN_JOB
from hsae_worker import lifecycle
from hsae_worker.app import app, settings

log = logging.getLogger(__name__)


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: int) -> str:
    """Run one job; its outcome is kept in Postgres."""
    if type(job_id) is not int:
        log.error("a message without a job's id was dropped")
        return "not a job"
    # Imported in the child, so that the parent stays small and never touches CUDA.
    from hsae.pipeline.run import run_job as run

    owner = f"{lifecycle.WORKER}:{os.getpid()}"
    try:
        return run(job_id, settings, owner, stop_requested=lifecycle.stop_requested, on_stuck=_die)
    finally:
        _free_gpu_memory()


def _die() -> None:
    """End this child; the worker starts another."""
    os.kill(os.getpid(), signal.SIGKILL)


def _free_gpu_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
