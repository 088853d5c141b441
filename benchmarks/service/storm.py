"""The storm of kill_storm.py: SIGKILLs of workers, their children and the servers, each followed until work goes on."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from tests.conftest import Service
from tests.waiting import rows_of

from hsae.embedded import Stack
from hsae.errors import ServiceError

TARGETS = ("worker", "child", "postgres", "valkey", "seaweedfs")
SERVERS = ("postgres", "valkey", "seaweedfs")
_DOWN_SECONDS = 2.0
_RECOVERY_SECONDS = 300.0
_PROGRESS = """
SELECT kind, avg(CASE state WHEN 'succeeded' THEN 1.0
                            ELSE coalesce(progress_done::float / nullif(progress_total, 0), 0) END) AS share
FROM job GROUP BY kind
"""
# Changes whenever work is committed: a shard, a checkpoint, a finished job.
_COMMITTED = """
SELECT (SELECT count(*) FROM activation_shard), count(*) FILTER (WHERE state = 'succeeded'),
       string_agg(checkpoint ->> 'object_key', ' ' ORDER BY id) FROM job
"""


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: what was hit, the job it ran, and the seconds until work went on.

    For a worker or its child these are the seconds until its job was free for another worker; None if it ran no job.
    """

    target: str
    job_id: int | None
    seconds: float | None


class Storm:
    """The kills and what follows them."""

    def __init__(self, stack: Stack, service: Service, chance: random.Random, weights: dict[str, float]) -> None:
        self._stack = stack
        self._service = service
        self._chance = chance
        self._weights = weights
        self._long_outage = 60.0
        self.kills: list[Kill] = []
        self.killed_pids: set[int] = set()

    def progress(self) -> float:
        """Share of the study's work that is done, by the seconds that each stage takes undisturbed."""
        shares = {row["kind"]: row["share"] for row in self._rows(_PROGRESS)}
        return float(sum(self._weights[kind] * shares[kind] for kind in shares) / sum(self._weights.values()))

    def strike(self, target: str) -> None:
        """Kill, start again, wait until work goes on."""
        kill = self._kill_server(target) if target in SERVERS else self._kill_worker(target)
        self.kills.append(kill)
        what = target if kill.job_id is None else f"{target} with job {kill.job_id}"
        outcome = "work went on" if kill.job_id is None else "the job was free again"
        after = "it ran no job" if kill.seconds is None else f"{outcome} after {kill.seconds:.1f} s"
        print(
            f"  {time.strftime('%H:%M:%S')} kill {len(self.kills)}: {what}: {after} ({self.progress():.0%} done)",
            flush=True,
        )

    def _kill_worker(self, target: str) -> Kill:
        worker = self._chance.choice([worker for worker in self._service.workers if worker.poll() is None])
        held = self._rows("SELECT id, fence FROM job WHERE state = 'running' AND owner LIKE :owner",
                          owner=f"%:{worker.pid}:%")  # fmt: skip
        started = time.monotonic()
        if target == "child":
            children = psutil.Process(worker.pid).children()
            self.killed_pids |= {child.pid for child in children}
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            psutil.wait_procs(children, timeout=10)
        else:
            self.killed_pids.add(worker.pid)
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            self._service.start_worker()
        if not held:
            return Kill(target, None, None)
        job = held[0]
        # Whether another worker takes it at once or after other jobs is the queue's matter.
        free = "SELECT 1 FROM job WHERE id = :id AND (fence > :fence OR state <> 'running')"
        return Kill(target, job["id"], _seconds_until(lambda: self._rows(free, **job), started))

    def _kill_server(self, target: str) -> Kill:
        (server,) = [server for server in self._stack.status().servers if server.name == target]
        started = time.monotonic()
        assert server.pid is not None
        os.killpg(server.pid, signal.SIGKILL)
        down = _DOWN_SECONDS
        if target == "seaweedfs" and self.progress() > 0.4:
            down, self._long_outage = max(down, self._long_outage), 0.0
        time.sleep(down)
        self._stack.start()
        before = self._rows(_COMMITTED)
        live = "SELECT 1 FROM job WHERE state IN ('waiting', 'queued', 'running')"
        return Kill(
            target, None, _seconds_until(lambda: self._rows(_COMMITTED) != before or not self._rows(live), started)
        )

    def _rows(self, query: str, **values: object) -> list[dict[str, Any]]:
        for _ in range(100):
            try:
                return rows_of(self._service, query, **values)
            except ServiceError:  # a connection that died with the server
                time.sleep(0.1)
        return rows_of(self._service, query, **values)


def _seconds_until(condition: Callable[[], object], started: float) -> float:
    while not condition():
        if time.monotonic() - started > _RECOVERY_SECONDS:
            raise SystemExit(f"nothing goes on {_RECOVERY_SECONDS:.0f} s after the kill")
        time.sleep(0.05)
    return time.monotonic() - started
