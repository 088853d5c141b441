"""The tasks: a message's job id goes to the pipeline, which knows the rest."""

import os
import socket
import uuid

from hsae.pipeline.doorbell import RUN_JOB
from hsae_worker.app import app, settings


@app.task(name=RUN_JOB)  # type: ignore[untyped-decorator]
def run_job(job_id: int) -> str:
    """Run one job; its outcome is kept in Postgres."""
    # Imported in the child, so that the parent stays small and never touches CUDA.
    from hsae.pipeline.run import run_job as run

    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return run(job_id, settings, owner)
