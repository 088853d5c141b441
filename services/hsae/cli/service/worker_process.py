"""How a worker's process is started: by `worker` in its own place, by `up` in the background."""

import os
import sys
from collections.abc import Sequence

from hsae.catalog import QUEUES
from hsae.errors import UserError


def worker_command(
    queues: Sequence[str] = QUEUES, *, name: str | None = None, log_level: str = "INFO", further: Sequence[str] = ()
) -> list[str]:
    """The Celery command of one worker; without a name Celery chooses one."""
    return [
        sys.executable, "-m", "celery", "--app", "hsae_worker.app", "worker",
        "--queues", ",".join(queues),
        *(() if name is None else ("--hostname", f"{name}@%h")),
        "--loglevel", log_level, "--without-mingle", "--without-gossip", *further,
    ]  # fmt: skip


def gpu_environment(gpu: int) -> dict[str, str]:
    """The variables that give a worker GPU number `gpu`, no other, and never the CPU in its place.

    Raises:
        UserError: torch sees fewer GPUs.
    """
    # torch takes seconds to load: only --gpu asks it.
    import torch

    n_gpus = torch.cuda.device_count()
    if gpu >= n_gpus:
        raise UserError(f"there is no GPU {gpu}: torch sees {n_gpus}; leave --gpu out for a worker without a GPU")
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    # Without the device a child that finds its driver gone would go on with the CPU.
    return {"CUDA_VISIBLE_DEVICES": visible[gpu] if visible else str(gpu), "HSAE_DEVICE": "cuda"}
