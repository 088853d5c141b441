"""Answers that no healthy server gives: a small HTTP server says them word for word."""

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hsae.errors import ServiceError
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.objects import ObjectStore


class Scripted(ThreadingHTTPServer):
    """Answers every request with `status`, `content_type` and `body`; announces `n_missing` bytes more."""

    status = 200
    content_type = "application/xml"
    body = b""
    n_missing = 0
    n_requests = 0


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def answer(self) -> None:
        self.server.n_requests += 1
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.n_missing))
        self.send_header("Retry-After", "3600")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_GET = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=scripted.serve_forever, args=(0.02,))
    thread.start()
    yield scripted
    scripted.shutdown()
    thread.join()
    scripted.server_close()


@pytest.fixture
def store(server: Scripted) -> ObjectStore:
    return ObjectStore(f"127.0.0.1:{server.server_port}", "access", "secret-0123", "hsae")


def fault(code: str, message: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()


def line_of(action: Callable[[], object], kind: type[Exception] = ServiceError) -> str:
    with pytest.raises(kind) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (507, fault("XMinioStorageFull", "Storage backend has reached its minimum free drive threshold.")),
        (507, b""),
        (400, fault("XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded")),
        (500, fault("InternalError", "assign volume: No writable volumes and no free volumes left")),
    ],
)
def test_a_full_server(server: Scripted, store: ObjectStore, status: int, body: bytes) -> None:
    server.status, server.body = status, body
    line = line_of(lambda: store.put("a", b"abc"))
    assert f"the S3 server at {store.endpoint} is full (" in line
    assert "free some space" in line


def test_a_server_that_fails_for_no_stated_reason(server: Scripted, store: ObjectStore) -> None:
    server.status, server.body = 500, fault("InternalError", "We encountered an internal\n error.")
    with ThreadPoolExecutor(2) as pool:  # each gives up only after its retries
        put = pool.submit(store.put, "a/b", b"abc")
        get = pool.submit(store.get, "a/b")
    answer = "(HTTP 500: InternalError We encountered an internal error.)"
    for each, advice in ((put, "its disk may be full"), (get, "if the object is damaged there, delete it")):
        line = line_of(each.result)
        assert f"failed at object a/b in bucket hsae {answer}" in line
        assert advice in line
    assert server.n_requests == 8


def test_a_body_that_stays_cut_short(server: Scripted, store: ObjectStore) -> None:
    server.body, server.n_missing = b"abc", 7
    line = line_of(lambda: store.get("a/b"), ObjectCorruptError)
    assert line.startswith("object a/b in bucket hsae is damaged (its body was cut short 3 times)")
    assert server.n_requests == 3


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (404, "text/html", b"<html>\nnot here</html>"),
        (200, "text/html", b"<html><br>welcome</html>"),
        (400, "application/xml", b"no xml"),
    ],
)
def test_another_kind_of_server(
    server: Scripted, store: ObjectStore, status: int, content_type: str, body: bytes
) -> None:
    server.status, server.content_type, server.body = status, content_type, body
    line = line_of(lambda: list(store.list("a/")))
    assert f"{store.endpoint} does not answer like an S3 server" in line
    assert "HSAE_S3_ENDPOINT" in line


def test_a_put_into_a_missing_bucket(server: Scripted, store: ObjectStore) -> None:
    server.status, server.body = 404, fault("NoSuchBucket", "The specified bucket does not exist")
    assert "bucket hsae does not exist" in line_of(lambda: store.put("a", b"abc"))


def test_tls_towards_a_server_without(server: Scripted) -> None:
    secure = ObjectStore(f"127.0.0.1:{server.server_port}", "access", "secret", "hsae", secure=True)
    assert "HSAE_S3_SECURE" in line_of(secure.ensure_bucket)


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("ExpiredToken", "HSAE_S3_ACCESS_KEY"),
        ("RequestTimeTooSkewed", "clocks"),
        ("MethodNotAllowed", "server's log"),
    ],
)
def test_refusals(server: Scripted, store: ObjectStore, code: str, hint: str) -> None:
    server.status, server.body = 403, fault(code, "no")
    line = line_of(lambda: store.get("a"))
    assert hint in line
    assert "secret-0123" not in line


@pytest.mark.parametrize("error", [ObjectMissingError("a/b", "hsae"), ObjectCorruptError("a/b", "hsae", "short")])
def test_errors_cross_processes(error: Exception) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert type(again) is type(error)
    assert str(again) == str(error)
