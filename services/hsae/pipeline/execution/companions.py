"""Jobs that share one pass over their data: a worker that has claimed one runs others beside it, each in a thread.

Each of them is a job like any other: it has its own lease, heartbeat, log, checkpoint and outcome.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from hsae.catalog import Job
from hsae.devices.memory import free_memory
from hsae.errors import HsaeError
from hsae.pipeline.kinds.registry import stage_of
from hsae.pipeline.queue import jobs
from hsae.sae.rows.shared_pass import Seat, SharedPass

log = logging.getLogger(__name__)
_LOOKED_AT = 1000
_CGROUP = Path("/sys/fs/cgroup")


@contextmanager
def companions(job: jobs.ClaimedJob, found: list[int], run: Callable[[int, Seat], object]) -> Iterator[Seat | None]:
    """Run other jobs during the block, after which they are waited for; gives this job's seat, or None without others.

    Args:
        job: the claimed one.
        found: the others, from `find_companions`.
        run: claims one and runs it, if it is still queued; raises nothing for an error inside it.
    """
    if not found:
        yield None
        return
    log.info("job %d shares one pass over its data with jobs %s", job.lease.job_id, ", ".join(map(str, found)))
    shared = SharedPass(1 + len(found))

    def run_seated(job_id: int) -> None:
        with shared.seat() as seat:
            try:
                run(job_id, seat)
            except HsaeError as error:  # it is still queued, or its lease runs out
                log.warning("job %d: %s", job_id, error)
            except Exception:
                log.exception("job %d could not be run beside job %d", job_id, job.lease.job_id)

    threads = [threading.Thread(target=run_seated, args=(job_id,), name=f"job-{job_id}") for job_id in found]
    for thread in threads:
        thread.start()
    try:
        with shared.seat() as seat:
            yield seat
    finally:
        for thread in threads:
            thread.join()


def find_companions(session: Session, job: jobs.ClaimedJob, device: torch.device, most: int) -> list[int]:
    """The queued jobs of the same priority that may share a pass with a claimed one, in their order.

    Only jobs that no worker has tried yet: what ends a worker, such as a lack of memory, ends all jobs of a pass, and
    the next attempt of each runs by itself. All of them together must fit into half of the free memory.

    Args:
        session: a transaction.
        job: the claimed one.
        device: where it runs.
        most: how many jobs may share a pass, with the claimed one.
    """
    if most <= 1 or job.attempt > 1:
        return []
    try:
        stage = stage_of(job.kind)
        request = stage.request.model_validate(job.request)
        key = stage.pass_key(request)
    except (KeyError, ValidationError):  # whoever runs it says so
        return []
    if key is None:
        return []
    mine = session.get_one(Job, job.lease.job_id)
    rows = session.execute(
        select(Job.id, Job.request)
        .where(Job.kind == job.kind, Job.state == "queued", Job.attempt == 0, jobs.is_due())
        .where(Job.queue == mine.queue, Job.priority == mine.priority)
        .order_by(Job.id)
        .limit(_LOOKED_AT)
    ).all()
    free = _free_bytes(device) // 2 - stage.pass_bytes(request, session)
    found: list[int] = []
    for job_id, content in rows:
        try:
            other = stage.request.model_validate(content)
            if len(found) + 1 >= most or stage.pass_key(other) != key:
                continue
        except ValidationError:
            continue
        free -= stage.pass_bytes(other, session)
        if free < 0:
            break
        found.append(job_id)
    return found


def _free_bytes(device: torch.device) -> int:
    """Memory of the device that nobody uses; on the CPU within the container's limit."""
    if device.type == "cuda":
        return free_memory(device)
    free = psutil.virtual_memory().available
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return free if limit == "max" else min(free, int(limit) - int(used))
    except (OSError, ValueError):
        return free
