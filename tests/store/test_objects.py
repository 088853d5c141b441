import hashlib
import io
import multiprocessing
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from minio import Minio

from hsae.errors import ServiceError, UserError
from hsae.settings import Settings
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.objects import ObjectStore

from .conftest import S3Server, new_store

OPERATIONS = {
    "put": lambda store: store.put("a/b", b"abc"),
    "get": lambda store: store.get("a/b"),
    "stat": lambda store: store.stat("a/b"),
    "delete": lambda store: store.delete("a/b"),
    "list": lambda store: list(store.list("a/")),
}


def raw_client(server: S3Server) -> Minio:
    return Minio(server.endpoint, server.access_key, server.secret_key, region="us-east-1", secure=False)


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("n_bytes", [0, 1, 100_000, 9 * 2**20])
def test_an_object_comes_back_byte_for_byte(store: ObjectStore, n_bytes: int) -> None:
    data = (bytes(range(251)) * (n_bytes // 251 + 1))[:n_bytes]
    stored = store.put(f"round/{n_bytes}", data)
    assert stored.key == f"round/{n_bytes}"
    assert stored.n_bytes == n_bytes == store.stat(stored.key)
    assert stored.sha256 == hashlib.sha256(data).hexdigest()
    assert store.get(stored.key) == data
    assert store.get(stored.key, sha256=stored.sha256) == data


def test_a_view_is_stored_and_a_second_put_replaces(store: ObjectStore) -> None:
    store.put("replaced", b"first")
    store.put("replaced", memoryview(b"-second-")[1:-1])
    assert store.get("replaced") == b"second"


def test_the_checksum_lies_beside_the_object(store: ObjectStore, s3_server: S3Server) -> None:
    stored = store.put("sum", b"abc", content_type="application/json")
    headers = raw_client(s3_server).stat_object(store.bucket, "sum").metadata
    assert headers["x-amz-meta-sha256"] == stored.sha256
    assert headers["content-type"] == "application/json"


def test_stat_exists_delete(store: ObjectStore) -> None:
    store.put("short/lived", b"abc")
    assert store.exists("short/lived")
    store.delete("short/lived")
    store.delete("short/lived")
    assert not store.exists("short/lived")
    assert store.stat("short/lived") is None
    assert store.stat("short") is None


def test_a_missing_object_is_named(store: ObjectStore) -> None:
    with pytest.raises(
        ObjectMissingError, match=f"no/such is missing from bucket {store.bucket}: submit again"
    ) as error:
        store.get("no/such")
    assert error.value.key == "no/such"
    one_line(error)


@pytest.mark.parametrize("damaged", [b"abd", b"ab", b"", b"abcd"])
@pytest.mark.parametrize("given", [True, False])
def test_other_bytes_than_those_stored_are_noticed(
    store: ObjectStore, s3_server: S3Server, damaged: bytes, given: bool
) -> None:
    stored = store.put("damaged", b"abc")
    raw_client(s3_server).put_object(
        store.bucket, "damaged", io.BytesIO(damaged), len(damaged), metadata={"sha256": stored.sha256}
    )
    with pytest.raises(ObjectCorruptError, match=f"damaged in bucket {store.bucket} is damaged") as error:
        store.get("damaged", sha256=stored.sha256 if given else None)
    assert "submit again to make it anew" in one_line(error)


def test_a_listing_of_more_than_a_page(store: ObjectStore) -> None:
    keys = [f"many/{i % 3}/{i:05d}" for i in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), [*keys, "many-more/1"]))
    assert sorted(store.list("many/")) == sorted(keys)
    assert sorted(store.list("many/1/")) == sorted(key for key in keys if key.startswith("many/1/"))
    assert list(store.list("nothing/")) == []
    store.delete_prefix("many/")
    assert list(store.list("many")) == ["many-more/1"]


def test_a_prefix_to_delete_is_a_folder(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="slash"):
        store.delete_prefix("activations/1")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b"])
def test_what_is_no_key(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="no object key"):
        store.put(key, b"")


def test_many_workers_ensure_one_bucket(s3_server: S3Server) -> None:
    bucket = f"hsae-{uuid4().hex[:12]}"
    barrier = threading.Barrier(8)

    def ensure(_: int) -> None:
        worker = new_store(s3_server, bucket)
        barrier.wait()
        worker.ensure_bucket()
        worker.put("a", b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ensure, range(8)))
    new_store(s3_server, bucket).ensure_bucket()


@pytest.mark.parametrize("operation", sorted(OPERATIONS.keys() - {"put"}))  # SeaweedFS creates one for a put
def test_a_missing_bucket_is_named(s3_server: S3Server, operation: str) -> None:
    with pytest.raises(ServiceError, match="bucket hsae-nowhere does not exist") as error:
        OPERATIONS[operation](new_store(s3_server, "hsae-nowhere"))
    assert "HSAE_S3_BUCKET" in one_line(error)


@pytest.mark.parametrize("operation", [*OPERATIONS, "ensure"])
@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
def test_wrong_keys(s3_server: S3Server, store: ObjectStore, operation: str, wrong: str) -> None:
    stranger = new_store(s3_server, store.bucket, **{wrong: "somebody-else-0123"})
    with pytest.raises(ServiceError, match="refuses us") as error:
        OPERATIONS.get(operation, ObjectStore.ensure_bucket)(stranger)
    line = one_line(error)
    assert "HSAE_S3_ACCESS_KEY and HSAE_S3_SECRET_KEY" in line
    assert s3_server.endpoint in line
    assert "0123" not in line


def test_settings_that_are_missing_are_listed(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET"):
        monkeypatch.delenv(f"HSAE_S3_{name}", raising=False)
    monkeypatch.setenv("HSAE_S3_ACCESS_KEY", s3_server.access_key)
    with pytest.raises(UserError, match=r"HSAE_S3_ENDPOINT, HSAE_S3_SECRET_KEY not set.*hsae-admin up"):
        ObjectStore.from_settings(Settings(home=tmp_path))
    monkeypatch.setenv("HSAE_S3_ENDPOINT", s3_server.endpoint)
    monkeypatch.setenv("HSAE_S3_SECRET_KEY", s3_server.secret_key)
    configured = ObjectStore.from_settings(Settings(home=tmp_path))
    configured.ensure_bucket()
    assert configured.bucket == "hsae"
    assert s3_server.secret_key not in repr(configured)


@pytest.mark.parametrize(
    ("endpoint", "bucket", "named"),
    [
        ("http://127.0.0.1:9000", "hsae", "HSAE_S3_ENDPOINT"),
        ("127.0.0.1:port", "hsae", "HSAE_S3_ENDPOINT"),
        ("127.0.0.1:9000", "Not A Bucket", "HSAE_S3_BUCKET"),
    ],
)
def test_settings_that_cannot_be(endpoint: str, bucket: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        ObjectStore(endpoint, "access", "secret", bucket)
    one_line(error)


def _get_in_child(store: ObjectStore, key: str, answers: "multiprocessing.SimpleQueue[bytes]") -> None:
    answers.put(store.get(key))


def test_a_forked_child_speaks_on_sockets_of_its_own(store: ObjectStore) -> None:
    store.put("forked", b"abc")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_get_in_child, args=(store, "forked", answers))
    child.start()
    for _ in range(20):
        assert store.get("forked") == b"abc"
    child.join(30)
    assert child.exitcode == 0
    assert answers.get() == b"abc"


def _restart_in_use(store: ObjectStore, s3_server: S3Server) -> tuple[float, list[BaseException]]:
    """Restart the server while one client writes and one reads; for how many seconds it was away, and what failed."""
    data = b"0123456789abcdef" * 2**16
    folder = uuid4().hex
    store.put(f"{folder}/kept", data)
    done = threading.Event()
    n_rounds = [0, 0]

    def write() -> None:
        while not done.is_set():
            assert store.get(store.put(f"{folder}/written/{n_rounds[0]}", data).key) == data
            n_rounds[0] += 1

    def read() -> None:
        while not done.is_set():
            assert store.get(f"{folder}/kept") == data
            n_rounds[1] += 1

    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(write), pool.submit(read)]
        try:
            time.sleep(0.3)
            killed = time.monotonic()
            s3_server.kill()
            s3_server.start()
            seconds = time.monotonic() - killed
            n_before = list(n_rounds)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and not any(each.done() for each in work):
                if all(now > before for now, before in zip(n_rounds, n_before, strict=True)):
                    break
                time.sleep(0.05)
        finally:
            done.set()
    failed = [error for each in work if (error := each.exception()) is not None]
    if not failed:
        assert all(now > before for now, before in zip(n_rounds, n_before, strict=True))
        assert len(list(store.list(f"{folder}/written/"))) == n_rounds[0]
    return seconds, failed


def test_a_restart_of_the_server_is_ridden_out(store: ObjectStore, s3_server: S3Server) -> None:
    for _ in range(3):
        seconds, failed = _restart_in_use(store, s3_server)
        if seconds < 5:
            break
    else:
        pytest.skip(f"the server was away for {seconds:.0f} s, and a client tries for 6 s")
    assert failed == []


def test_a_server_that_is_down_is_named(s3_server: S3Server, store: ObjectStore) -> None:
    nowhere = ObjectStore("no-such-host.invalid:9000", "access", "secret", "hsae")
    s3_server.kill()
    try:
        with ThreadPoolExecutor(len(OPERATIONS) + 1) as pool:  # each gives up only after its retries
            work = {name: pool.submit(operation, store) for name, operation in OPERATIONS.items()}
            work["nowhere"] = pool.submit(nowhere.ensure_bucket)
    finally:
        s3_server.start()
    for name, each in work.items():
        error = each.exception()
        assert isinstance(error, ServiceError), name
        host, reason = (
            (nowhere.endpoint, "its host name is unknown")
            if name == "nowhere"
            else (s3_server.endpoint, "connection refused")
        )
        line = f"the S3 server at {host} cannot be reached ({reason}): start it or correct HSAE_S3_ENDPOINT"
        assert re.fullmatch(re.escape(line), str(error)), name
