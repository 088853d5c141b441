"""Homes of private stacks, a user's view of them, and their end, whatever a test leaves running."""

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import minio
import psutil
import psycopg
import pytest
import redis

from hsae.embedded import Stack, StackInfo


def _processes_of(folder: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _works_below(process, folder)]


def _works_below(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        try:
            return Path(process.cwd()).is_relative_to(folder)
        except psutil.AccessDenied:  # root in a container, of another user's process
            return any(part.startswith(f"{folder}/") for part in process.cmdline())
    except psutil.NoSuchProcess:  # or a zombie by now
        return False


@pytest.fixture
def processes_of() -> Callable[[Path], list[psutil.Process]]:
    """Finds every process that works in a folder, without the stack's own records."""
    return _processes_of


def _fast_folder() -> Path | None:
    """Memory where there is plenty: most of the time goes into syncing and deleting clusters."""
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2**31 else None


@contextmanager
def _temporary_home() -> Iterator[Path]:
    """A home that does not exist yet (not in tmp_path: pytest keeps that, and a cluster has 40 MB)."""
    folder = Path(tempfile.mkdtemp(prefix="hsae-test-", dir=_fast_folder()))
    yield folder / "home"
    left = _processes_of(folder)
    for process in left:
        process.kill()
    shutil.rmtree(folder)
    assert left == []


@pytest.fixture
def home() -> Iterator[Path]:
    with _temporary_home() as home:
        yield home


@pytest.fixture(scope="module")
def module_home() -> Iterator[Path]:
    with _temporary_home() as home:
        yield home


@pytest.fixture(scope="module")
def running(module_home: Path) -> Iterator[Stack]:
    """One running stack that a module's tests share."""
    with Stack(module_home) as stack:
        yield stack


class Words:
    """Writes words to and reads them from all three servers, as clients do."""

    def s3(self, info: StackInfo) -> minio.Minio:
        return minio.Minio(
            info.s3_endpoint,
            access_key=info.s3_access_key,
            secret_key=info.s3_secret_key,
            region="us-east-1",
            secure=False,
        )

    def write(self, info: StackInfo, word: str) -> None:
        with psycopg.connect(info.database_url) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS note (word text)")
            connection.execute("INSERT INTO note VALUES (%s)", [word])
        with redis.Redis.from_url(info.broker_url) as client:
            client.rpush("note", word)
        body = self._body(word)
        self.s3(info).put_object(info.s3_bucket, f"note/{word}", io.BytesIO(body), len(body))

    def read(self, info: StackInfo) -> tuple[set[str], set[str], set[str]]:
        """What Postgres, Valkey and SeaweedFS hold."""
        with psycopg.connect(info.database_url) as connection:
            rows = {word for (word,) in connection.execute("SELECT word FROM note")}
        with redis.Redis.from_url(info.broker_url) as client:
            items = {item.decode() for item in client.lrange("note", 0, -1)}
        objects = set()
        for entry in self.s3(info).list_objects(info.s3_bucket, prefix="note/"):
            word = entry.object_name.removeprefix("note/")
            response = self.s3(info).get_object(info.s3_bucket, entry.object_name)
            assert response.read() == self._body(word)
            response.close()
            response.release_conn()
            objects.add(word)
        return rows, items, objects

    def _body(self, word: str) -> bytes:
        return word.encode() * 1_000_000  # above 4 MiB it is stored in several pieces


@pytest.fixture(scope="session")
def words() -> Words:
    return Words()
