"""One extraction by one worker process and by two, each with one thread, in turns; and whether all stored the same.

A private Postgres, broker and S3 server, real workers. The images are JPEGs of the size of a photograph in ImageNet.
What counts is the time from the start of the first part of the extraction to the end of the last: every worker has
loaded its libraries before, in an extraction of a few other images, and loads the model for each of its parts. Goal:
two workers take at most 1 / 1.8 of the time of one, that is within 10 % of linear, and all manifests are the same to
the last byte. `tests/pipeline/stages/test_extract_parts.py` takes the parts in random order and kills a worker.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from benchmarks.extraction.default_model import default_model
from benchmarks.extraction.jpegs import write_jpegs
from benchmarks.measure import Row, at_least, machine, print_header, print_report, versions
from benchmarks.service.kill_storm import Folders
from tests.conftest import Service, services_on
from tests.faults.standing import LEASE_SECONDS
from tests.small import bare_scoring, register, register_small, small_request
from tests.waiting import rows_of, wait_for

from hsae.catalog import transaction
from hsae.embedded import Stack
from hsae.extraction.config import ExtractionConfig
from hsae.pipeline.control.jobs import cancel, jobs_of_study
from hsae.pipeline.planning.submit import submit
from hsae.pipeline.queue.notifier import Notifier
from hsae.sae.config import SaeConfig

MIN_SPEEDUP = 1.8
_N_PARTS = 16
_CLASSES = ("n02084071", "n02121620")  # a dog and a cat; they are only labels here
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_STATES = "SELECT DISTINCT state FROM job WHERE id = ANY(:ids)"
_PARTS = (
    "SELECT extract(epoch FROM max(finished_at) - min(started_at))::float AS seconds, count(*) AS n FROM job"
    " WHERE kind = 'part' AND id = ANY(:ids)"
)


def _labelled(folder: Path, n_images: int) -> Path:
    """JPEGs in two class folders."""
    listed = write_jpegs(folder / "made", n_images)
    for one in listed:
        target = folder / "images" / _CLASSES[one.image % len(_CLASSES)]
        target.mkdir(parents=True, exist_ok=True)
        (folder / "made" / one.path).rename(target / one.path)
    return folder / "images"


def _extracted(service: Service, dataset: str, model: Path, shard_images: int) -> tuple[int, float]:
    """Extract the first layers of a data set, and cancel what would follow; the number of parts, and their seconds."""
    request = small_request(
        dataset,
        model=str(model),
        layers=tuple(range(6)),
        saes=(SaeConfig(kind="topk", k=4, expansion=2, n_steps=30),),
        scoring=bare_scoring(),
        extraction=ExtractionConfig(shard_images=shard_images, batch_size=16),
    )
    plan = submit(request, service.settings, service.sessions)
    Notifier(service.settings).notify(plan.to_notify)
    ids = [job.id for job in plan.jobs if job.kind in ("part", "extract")]

    def is_over() -> bool:
        states = {row["state"] for row in rows_of(service, _STATES, ids=ids)}
        if "failed" in states:
            raise SystemExit(service.logs()[-5000:])
        return states == {"succeeded"}

    wait_for(is_over, 3600, service.logs)
    (parts,) = rows_of(service, _PARTS, ids=ids)
    with transaction(service.sessions) as session:
        unfinished, _ = jobs_of_study(session, plan.study_id)
    if unfinished:
        cancel(service.sessions, service.store, unfinished, "benchmark")
    return int(parts["n"]), float(parts["seconds"])


def _turn(make: Callable[..., Service], images: Path, n_images: int, n_workers: int, model: Path) -> tuple[float, str]:
    """Seconds of the parts of one extraction by so many workers, and the checksums of its manifests."""
    shard_images = -(-n_images // _N_PARTS)
    service = make(extraction_part_images=shard_images, reconcile_seconds=2)
    register_small(service, n_classes=40)
    register(service, "photographs", images)
    for _ in range(n_workers):
        service.start_worker(**_ONE_THREAD)
    _extracted(service, "small", model, shard_images=10)  # so that every worker has loaded what it needs
    n_parts, seconds = _extracted(service, "photographs", model, shard_images)
    if n_parts != _N_PARTS:
        raise SystemExit(f"{n_parts} parts in place of {_N_PARTS}")
    manifests = rows_of(service, "SELECT manifest_sha256 FROM activation_set s ORDER BY s.key")
    service.close()
    print(f"  {n_workers} workers: {seconds:.1f} s", flush=True)
    return seconds, ",".join(str(row["manifest_sha256"]) for row in manifests)


def measured(arguments: argparse.Namespace) -> list[Row]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    manifests = set()
    with tempfile.TemporaryDirectory(prefix="hsae-workers-") as root:
        folders = Folders(Path(root))
        images = _labelled(folders.mktemp("images"), arguments.images)
        with (
            Stack(folders.mktemp("servers")) as stack,
            services_on(stack.info(), cast("pytest.TempPathFactory", folders), lease_seconds=LEASE_SECONDS) as make,
        ):
            for _ in range(arguments.turns):
                for n_workers, found in seconds.items():
                    took, stored = _turn(make, images, arguments.images, n_workers, arguments.model)
                    found.append(took)
                    manifests.add(stored)
    one, two = (statistics.median(found) for found in seconds.values())
    return [
        Row("parts of the extraction, one worker with one thread", one, "s"),
        Row("parts of the extraction, two workers with one thread each", two, "s"),
        at_least("one worker / two workers", one / two, "x", MIN_SPEEDUP),
        Row("different manifests of all turns", len(manifests), "", 1, len(manifests) == 1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = default_model()
    parser.add_argument("--model", type=Path, default=model, help="folder of a backbone (default: %(default)s)")
    parser.add_argument("--images", type=int, default=512, help="JPEGs (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=2, help="of each number of workers (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.images < _N_PARTS or arguments.turns < 1:
        parser.error(f"--images must be at least {_N_PARTS}, --turns at least 1")
    where, what = machine(), versions()
    print_header(f"{arguments.model.name} over {arguments.images} JPEGs in {_N_PARTS} parts", where, what)
    rows = measured(arguments)
    table = {"images_of_workers": arguments.images, "parts": _N_PARTS}
    print_report(rows, where, what, ["several machines", "GPUs", "more workers than cores"], table)


if __name__ == "__main__":
    main()
