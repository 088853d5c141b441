"""The disk of a server fills up in the middle of a study; once there is space again the study ends by itself."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.conftest import Service, services_on
from tests.faults.standing import Standing, lease_seconds
from tests.small import register_small
from tests.waiting import rows_of, wait_for

from hsae.embedded import Stack

_DISK_BYTES = 300_000_000


def _command(*argv: str | Path) -> None:
    done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount a small file system: {done.stderr.strip()}")


@pytest.fixture(scope="module")
def disks(tmp_path_factory) -> Iterator[Stack]:
    """A stopped stack whose Postgres and S3 server have a small disk each."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    stack = Stack(tmp_path_factory.mktemp("disks"))
    with stack:
        pass
    mounted: list[Path] = []
    try:
        for name in ("postgres", "seaweedfs"):
            folder = stack.home / name
            disk = stack.home / f"{name}.disk"
            disk.mkdir(mode=0o700)
            _command("mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES},mode=700", "tmpfs", disk)
            mounted.append(disk)
            _command("cp", "-a", f"{folder}/.", disk)
            _command("mount", "--bind", disk, folder)
            mounted.append(folder)
        yield stack
    finally:
        stack.stop()
        for folder in reversed(mounted):
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def small_disks(disks, undisturbed, tmp_path_factory) -> Iterator[Standing]:
    """A service on the small disks with a worker of its own."""
    with disks, services_on(disks.info(), tmp_path_factory) as make:
        service = make(checkpoint_seconds=0.2, retry_seconds=0.5, lease_seconds=lease_seconds())
        register_small(service)
        service.start_worker()
        yield Standing(service, disks, *undisturbed)


@contextmanager
def _full(folder: Path) -> Iterator[None]:
    """Next to nothing is free in the folder's file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    left = os.statvfs(folder)  # the server may have freed some blocks since
    assert left.f_bavail * left.f_frsize < 2_000_000
    yield
    filler.unlink()


def _make_room_for_jobs(service: Service) -> None:
    """Let rows of jobs and of their history fit into their tables as they are: an outage is entered there."""
    url = service.settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(10):
            connection.execute("UPDATE job SET priority = priority")
            connection.execute("UPDATE job_event SET who = who")
        connection.execute("VACUUM (TRUNCATE OFF) job, job_event")


@pytest.mark.parametrize(
    ("server", "kind", "message"),
    [
        ("seaweedfs", "train", "its disk may be full: look at its free space and its log"),
        ("postgres", "analyze", "the database's disk is full"),
    ],
)
def test_jobs_wait_for_free_space(small_disks, server, kind, message):
    service = small_disks.service
    if kind == "train":
        plan = small_disks.submit_from("extract")
        small_disks.wait_for_middle("train")
    else:
        # After a restart the used segments of the write-ahead log are its next ones: tables run out of space before it.
        small_disks.stack.stop()
        small_disks.stack.start()
        _make_room_for_jobs(service)
        plan = small_disks.submit_from("analyze")
    with _full(small_disks.stack.home / server):
        waiting = "SELECT 1 FROM job WHERE kind = :kind AND outages > 0 AND error LIKE :error"
        wait_for(lambda: rows_of(service, waiting, kind=kind, error=f"%{message}%"), 240, service.logs)
    assert small_disks.stack.status().running
    jobs = small_disks.check_finished(plan)
    assert {(job["attempt"], job["error"]) for job in jobs} == {(1, None)}, service.logs()
