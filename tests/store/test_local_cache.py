"""A folder of objects by checksum: whole files, within a bound, never a wrong byte."""

import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hsae.store.faults import ObjectMissingError
from hsae.store.local_cache import LocalCache


class Source:
    """A store in memory that counts what is read."""

    bucket = "bucket"

    def __init__(self, *contents: bytes) -> None:
        self.objects = {hashlib.sha256(content).hexdigest(): content for content in contents}
        self.n_read = 0

    def get(self, key: str, *, sha256: str | None = None) -> bytes:
        self.n_read += 1
        if sha256 is not None and sha256 not in self.objects:
            raise ObjectMissingError(key, self.bucket)
        return b"unnamed" if sha256 is None else self.objects[sha256]


def test_an_object_is_read_from_the_store_once(tmp_path):
    source = Source(b"a" * 10, b"b" * 20)
    cache = LocalCache(source, tmp_path / "new" / "folder", 100)
    for _ in range(3):
        for sha256, content in source.objects.items():
            assert cache.get("key", sha256=sha256) == content
    assert source.n_read == 2
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == set(source.objects)
    assert cache.get("key") == b"unnamed"  # whose content is not known beforehand
    assert source.n_read == 3


def test_a_damaged_file_is_read_again(tmp_path, caplog):
    source = Source(b"a" * 10)
    (sha256,) = source.objects
    cache = LocalCache(source, tmp_path, 100)
    cache.get("key", sha256=sha256)
    (tmp_path / sha256).write_bytes(b"a" * 9 + b"b")
    with caplog.at_level(logging.WARNING):
        assert cache.get("key", sha256=sha256) == b"a" * 10
    assert f"{tmp_path / sha256} is damaged" in caplog.text
    assert (tmp_path / sha256).read_bytes() == b"a" * 10
    (tmp_path / sha256).unlink()
    del source.objects[sha256]
    with pytest.raises(ObjectMissingError):
        cache.get("key", sha256=sha256)


def test_what_was_read_lately_stays_and_the_oldest_make_room(tmp_path):
    source = Source(*(bytes([number]) * 40 for number in range(4)))
    first, second, third, fourth = source.objects
    cache = LocalCache(source, tmp_path, 100)
    kept = lambda: {file.name for file in tmp_path.iterdir()}  # noqa: E731
    for sha256 in (first, second, third):
        cache.get("key", sha256=sha256)
    assert kept() == {first, second}  # the third has no room, and both were read within the hour
    hour_ago = time.time() - 4000
    os.utime(tmp_path / second, (hour_ago, hour_ago))
    (tmp_path / ".partial-left").write_bytes(b"x" * 15)
    os.utime(tmp_path / ".partial-left", (hour_ago - 1, hour_ago - 1))
    cache.get("key", sha256=third)
    assert kept() == {first, third}
    os.utime(tmp_path / first, (hour_ago, hour_ago))
    cache.get("key", sha256=first)  # which counts as reading
    cache.get("key", sha256=fourth)
    assert kept() == {first, third}


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    source = Source(b"a")
    (sha256,) = source.objects
    cache = LocalCache(source, tmp_path / "file", 100)
    for _ in range(2):
        assert cache.get("key", sha256=sha256) == b"a"
    assert caplog.text.count("objects cannot be kept in") == 1


def test_threads_may_share_a_folder(tmp_path):
    source = Source(*(bytes([number]) * 1000 for number in range(20)))
    caches = [LocalCache(source, tmp_path, 12_000) for _ in range(4)]

    def read(cache: LocalCache) -> bool:
        return all(cache.get("key", sha256=sha256) == content for sha256, content in source.objects.items())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, caches * 5))
    files = list(tmp_path.iterdir())
    assert all(hashlib.sha256(file.read_bytes()).hexdigest() == file.name for file in files)
    assert len(files) <= 12 + 3  # each of the others may have been writing one
