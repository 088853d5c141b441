"""Fixtures that every test package shares: real servers, a fresh database and bucket, a real worker process."""

import functools
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded, as in the workers
# Several processes share the cores, and an idle thread of OpenBLAS spins: five times the processor time for small
# matrices. Read when NumPy is loaded; processes that tests start inherit it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import psycopg
import pytest
from hypothesis import settings as hypothesis_settings
from minio import Minio
from pydantic import SecretStr
from redis import Redis
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.orm import Session, sessionmaker
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from hsae.catalog import connect, session_factory
from hsae.catalog.server.migrate import upgrade
from hsae.embedded import Stack, StackInfo
from hsae.settings import Settings
from hsae.store.objects import ObjectStore
from tests import examples
from tests.browser import chromium
from tests.scheduling import parts

__all__ = ["chromium"]

_numbers = itertools.count(1)
hypothesis_settings.load_profile(examples.DEFAULT_PROFILE)  # another one by --hypothesis-profile


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For `-m slow` a file without the mark is not even imported: that takes a minute in every process.

    The marks of the whole folders faults and demo stand in their conftest.
    """
    if config.option.markexpr != "slow" or collection_path.suffix != ".py":
        return None
    files = (collection_path, collection_path.with_name("conftest.py"))
    return None if any("slow" in file.read_text() for file in files if file.is_file()) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first."""
    items.sort(key=lambda item: parts.rank(item.nodeid))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failure is told at once: of a run that is stopped for its time nobody sees the summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stderr.write(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext[-4000:]}\n")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Folders that share a study or servers stay in one process, whatever --dist says."""
    return parts.PartScheduling(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of larger real material beside the checkout; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("HSAE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the test material folder {folder} (or HSAE_TEST_DATA), which is absent")
    return folder


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    """One private Postgres, Valkey and SeaweedFS for the whole test session.

    Its Postgres does not wait for the disk: every database of a test is a copy of files, and nobody needs them after a
    crash of the machine.
    """
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder) as running:
        with (folder / "postgres" / "postgresql.auto.conf").open("a") as settings:
            settings.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
        postmaster = (folder / "postgres" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGHUP)  # it reads its settings again
        yield running.info()


@dataclass
class Service:
    """A database, a broker and a bucket of a test's own, and the workers it starts."""

    settings: Settings
    sessions: sessionmaker[Session]
    store: ObjectStore
    environment: dict[str, str]
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    is_closed: bool = False

    def start_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """A real worker process with one child, in a session of its own."""
        log = (self.folder / f"worker-{len(self.workers)}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "hsae_worker.app", "worker", "--loglevel", "INFO",
             "--without-mingle", "--without-gossip", "--queues", "gpu,cpu", "--hostname", f"test{next(_numbers)}@%h"],
            env={**os.environ, **self.environment, **environment},
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=self.folder,
        )  # fmt: skip
        log.close()
        self.workers.append(worker)
        return worker

    def logs(self) -> str:
        """What all workers printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("worker-*.log")))

    def stop_workers(self) -> None:
        """End every worker and its children."""
        for worker in self.workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    def close(self) -> None:
        """End the workers and free what the servers hold for this service.

        Its database is a thousand files. Each bucket takes several of the few volumes that SeaweedFS makes of a disk;
        it deletes a full bucket whole.
        """
        if self.is_closed:
            return
        self.is_closed = True
        self.stop_workers()
        self.sessions.kw["bind"].dispose()
        own = make_url(self.settings.database_url.get_secret_value())
        with psycopg.connect(
            own.set(database="postgres").render_as_string(hide_password=False), autocommit=True
        ) as admin:
            drop = psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            with suppress(psycopg.errors.InsufficientPrivilege):  # the reader's role has a session that is not ours
                admin.execute(drop.format(psycopg.sql.Identifier(str(own.database))))
        Minio(
            self.settings.s3_endpoint,
            access_key=self.settings.s3_access_key,
            secret_key=self.settings.s3_secret_key.get_secret_value(),
            region=self.settings.s3_region,
            secure=False,
        ).remove_bucket(self.settings.s3_bucket)


@functools.cache
def _template(database_url: str) -> str:
    """A migrated database of a server that others are copies of: a copy takes a tenth of a migration's time."""
    template = f"hsae_test_template_{next(_numbers)}"
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{template}"')
    engine = create_engine(
        make_url(database_url).set(drivername="postgresql+psycopg", database=template), poolclass=NullPool
    )
    upgrade(engine)
    engine.dispose()
    return template


@contextmanager
def services_on(
    stack: StackInfo, tmp_path_factory: pytest.TempPathFactory, **defaults: object
) -> Iterator[Callable[..., Service]]:
    """Makes services, each with a database, broker number and bucket of its own on the servers of `stack`.

    `defaults` are settings that all of them get.
    """
    made: list[Service] = []

    def make(*, migrate: bool = True, **settings_values: object) -> Service:
        for earlier in made:  # idle connections of tests that are done would use up the server's
            earlier.sessions.kw["bind"].dispose()
        number = next(_numbers)
        name = f"hsae_test_{number}"
        copied = f' TEMPLATE "{_template(stack.database_url)}" STRATEGY FILE_COPY' if migrate else ""
        with psycopg.connect(stack.database_url, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"' + copied)
        folder = tmp_path_factory.mktemp(f"service-{number}")
        values: dict[str, Any] = {
            "home": folder / "home",
            "database_url": make_url(stack.database_url).set(database=name).render_as_string(hide_password=False),
            "broker_url": stack.broker_url.rsplit("/", 1)[0] + f"/{number % 16}",
            "s3_endpoint": stack.s3_endpoint,
            "s3_access_key": stack.s3_access_key,
            "s3_secret_key": stack.s3_secret_key,
            "s3_bucket": name.replace("_", "-"),
            "device": "cpu",
            "reconcile_seconds": 2,  # an idle worker that looks twice a second uses a tenth of a slow core
            "max_attempts": 10,
            "retry_seconds": 0.1,
            **defaults,
            **settings_values,
        }
        with Redis.from_url(values["broker_url"]) as broker:  # an earlier test may have used the same number
            broker.flushdb()
        environment = {f"HSAE_{key.upper()}": str(value) for key, value in values.items()}
        for secret in ("database_url", "broker_url", "s3_secret_key"):
            values[secret] = SecretStr(str(values[secret]))
        settings = Settings(**values)
        engine = connect(settings)
        store = ObjectStore.from_settings(settings)
        store.ensure_bucket()
        service = Service(settings, session_factory(engine), store, environment, folder)
        made.append(service)
        return service

    try:
        yield make
    finally:
        for service in made:
            service.close()


@pytest.fixture(scope="module")
def make_service(stack: StackInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Makes services, each with a database, broker number and bucket of its own on the session's servers.

    They end with the module: idle workers look at their database all the time.
    """
    with services_on(stack, tmp_path_factory) as make:
        yield make


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Iterator[Service]:
    """A fresh service for one test."""
    fresh = make_service()
    yield fresh
    fresh.close()
