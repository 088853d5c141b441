"""Kill storm: SIGKILL after SIGKILL while a study of 22 jobs runs, then a comparison with an undisturbed run of it.

Two workers run the study on the bundled images. Each kill strikes when the study has reached a random share of its
work, so that the storm lasts as long as the study, on a fast machine as on a slow one. It hits a worker (started again
at once, as a supervisor does), a worker's child, Postgres, Valkey or the S3 server (each started again after 2 s; one
kill of the S3 server lasts a minute). The last line is JSON.
"""

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from benchmarks.measure import Row, machine, print_header, print_report, versions
from benchmarks.service.storm import SERVERS, TARGETS, Storm
from tests.conftest import Service, services_on
from tests.faults.standing import LEASE_SECONDS, assert_no_orphans
from tests.small import all_results, register_small, submit_small
from tests.waiting import rows_of

from hsae.embedded import Stack
from hsae.errors import ServiceError
from hsae.extraction.config import ExtractionConfig
from hsae.sae.config import SaeConfig

_LAYERS = (0, 1, 2, 3, 4)


@dataclass
class Folders:
    """Numbered folders of one temporary folder, in the manner of pytest's `tmp_path_factory`."""

    root: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def mktemp(self, name: str) -> Path:
        """A new folder."""
        folder = self.root / f"{name}-{next(self.numbers)}"
        folder.mkdir()
        return folder


def _submit(service: Service, n_steps: int) -> int:
    saes = [SaeConfig(kind="topk", k=8, expansion=expansion, n_steps=n_steps) for expansion in (2, 4)]
    plan = submit_small(
        service, layers=_LAYERS, saes=tuple(saes), extraction=ExtractionConfig(shard_images=100, batch_size=20)
    )
    return plan.study_id


def _jobs(service: Service) -> list[dict[str, Any]]:
    return rows_of(service, "SELECT *, extract(epoch FROM finished_at - started_at)::float AS seconds FROM job")


def _run_to_the_end(service: Service, seconds: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + seconds
    while True:
        with suppress(ServiceError):
            jobs = _jobs(service)
            if not {job["state"] for job in jobs} & {"waiting", "queued", "running"}:
                return jobs
        if time.monotonic() > deadline:
            raise SystemExit(f"the study did not end within {seconds:.0f} s\n{service.logs()[-5000:]}")
        time.sleep(0.1)


def _count(service: Service, reason: str) -> int:
    return int(rows_of(service, "SELECT count(*) AS n FROM job_event WHERE reason = :reason", reason=reason)[0]["n"])


def _exactly(name: str, value: float, unit: str, goal: float) -> Row:
    return Row(name, value, unit, goal, value == goal)


def _orphans(service: Service) -> str:
    try:
        assert_no_orphans(service)
    except AssertionError as error:
        return str(error) or "found"
    return ""


def main() -> None:
    """Run the study undisturbed, then in the storm, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--classes", type=int, default=100, help="classes of the bundled images")
    parser.add_argument("--steps", type=int, default=1800, help="training steps per SAE")
    parser.add_argument("--max-seconds", type=float, default=7200)
    options = parser.parse_args()
    where, what = machine(), versions()
    print_header(f"kill storm: seed {options.seed}, {options.kills} kills", where, what)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="hsae-storm-") as root:
        folders = Folders(Path(root))
        with (
            Stack(folders.mktemp("servers")) as stack,
            services_on(stack.info(), cast("pytest.TempPathFactory", folders), lease_seconds=LEASE_SECONDS) as make,
        ):
            rows = _compare(stack, make, chance, options)
    print_report(rows, where, what, ["several machines", "power loss of a machine", "a GPU in the middle of its work"])
    if any(row.met is False for row in rows):
        raise SystemExit(1)


def _compare(
    stack: Stack, make: Callable[..., Service], chance: random.Random, options: argparse.Namespace
) -> list[Row]:
    calm = make(checkpoint_seconds=0.5)
    register_small(calm, options.classes)
    calm.start_worker(), calm.start_worker()
    started = time.monotonic()
    _submit(calm, options.steps)
    calm_jobs = _run_to_the_end(calm, options.max_seconds)
    calm_seconds = time.monotonic() - started
    calm.stop_workers()
    assert {job["state"] for job in calm_jobs} == {"succeeded"}, calm.logs()[-5000:]
    expected = all_results(calm)
    print(f"  undisturbed: {len(calm_jobs)} jobs in {calm_seconds:.0f} s", flush=True)

    # Kills of a worker or its child count as attempts, of which a job has three unless told otherwise.
    service = make(checkpoint_seconds=0.5, max_attempts=1000, max_outages=1000, retry_seconds=0.5)
    register_small(service, options.classes)
    service.start_worker(), service.start_worker()
    kinds = dict.fromkeys(job["kind"] for job in calm_jobs)
    weights = {kind: sum(job["seconds"] for job in calm_jobs if job["kind"] == kind) for kind in kinds}
    storm = Storm(stack, service, chance, weights)
    targets = [TARGETS[i % len(TARGETS)] for i in range(options.kills)]
    chance.shuffle(targets)
    started = time.monotonic()
    _submit(service, options.steps)
    for share, target in zip(sorted(chance.uniform(0, 0.95) for _ in targets), targets, strict=True):
        while storm.progress() < share:
            time.sleep(0.05)
        storm.strike(target)
    jobs = _run_to_the_end(service, options.max_seconds)
    seconds = time.monotonic() - started

    n_false_alarms = 0
    for event in rows_of(service, "SELECT at, job_id, message FROM job_event WHERE reason = 'lease_expired'"):
        owner = event["message"].split()[2].split(":")  # host:pid:token:child's pid
        if not {int(owner[1]), int(owner[3])} & storm.killed_pids:
            n_false_alarms += 1
            print(f"  {event['at']:%H:%M:%S}: job {event['job_id']}: {event['message']}, but it was not killed")
    n_unequal = sum(results != expected[name] for name, results in all_results(service).items())
    orphans = _orphans(service)
    print(f"  orphans: {orphans or 'none'}")
    for job in jobs:
        outages = f", {job['outages']} outages" if job["outages"] else ""
        print(f"  job {job['id']} {job['title']}: {job['state']} in attempt {job['attempt']}{outages}")
    rows = [
        Row("kills", len(storm.kills), "kills"),
        _exactly("jobs that succeeded", sum(job["state"] == "succeeded" for job in jobs), "jobs", len(calm_jobs)),
        _exactly("tables of results that differ from the undisturbed run", n_unequal, "tables", 0),
        _exactly("orphan rows or objects", float(bool(orphans)), "yes/no", 0),
        Row("attempts in all", sum(job["attempt"] for job in jobs), "attempts"),
        Row("attempts of the job with most", max(job["attempt"] for job in jobs), "attempts"),
        Row("outages (cost no attempt)", _count(service, "outage"), "outages"),
        Row("leases that expired", _count(service, "lease_expired"), "leases"),
        Row("leases of a living worker that expired", n_false_alarms, "leases"),
        Row("seconds undisturbed", calm_seconds, "s"),
        Row("seconds in the storm", seconds, "s"),
        Row("in the storm, per undisturbed second", seconds / calm_seconds, "s/s"),
    ]
    for target in TARGETS:
        times = [kill.seconds for kill in storm.kills if kill.target == target and kill.seconds is not None]
        n_idle = sum(kill.target == target and kill.seconds is None for kill in storm.kills)
        rows.append(Row(f"kills of {target}", len(times) + n_idle, "kills"))
        outcome = "work went on" if target in SERVERS else "its job was free again"
        if times:
            rows.append(Row(f"until {outcome} after a kill of {target}: median", statistics.median(times), "s"))
            rows.append(Row(f"until {outcome} after a kill of {target}: longest", max(times), "s"))
    return rows


if __name__ == "__main__":
    main()
