"""Answers that no healthy server gives: a small HTTP server says them word for word."""

import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from hsae.errors import ServiceError
from hsae.store import reading
from hsae.store.faults import ObjectCorruptError, ObjectMissingError
from hsae.store.objects import ObjectStore


class Scripted(ThreadingHTTPServer):
    """Answers every request with `status`, `content_type` and `body`; announces `n_missing` bytes more.

    With `only` it does so for this path alone, and keeps and gives any other object.
    """

    status = 200
    content_type = "application/xml"
    body = b""
    n_missing = 0
    n_requests = 0
    only: str | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: dict[str, bytes] = {}


class Handler(BaseHTTPRequestHandler):
    server: Scripted

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.only not in (None, self.path):
            self.keep_or_give(sent)
            return
        self.server.n_requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(self.server.body) + self.server.n_missing))
        self.send_header("Retry-After", "3600")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    def keep_or_give(self, sent: bytes) -> None:
        kept = self.server.kept
        if self.command == "PUT":
            kept[self.path] = sent
        content = kept[self.path] if self.command == "GET" else b""
        if self.command == "DELETE":
            del kept[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

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
    for each, advice in ((put, "its disk may be full"), (get, "look at its log; jobs go on by themselves")):
        line = line_of(each.result)
        assert f"failed at object a/b in bucket hsae {answer}" in line
        assert advice in line
    assert server.n_requests == 9  # the reader asks once, and whether the server takes another object


_CUT_SHORT = {"body": b"abc", "n_missing": 7}
_ROTTEN = {"status": 500, "body": fault("InternalError", "We encountered an internal error.")}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (_CUT_SHORT, "its body is cut short"),
        (_ROTTEN, "HTTP 500: InternalError We encountered an internal error."),
    ],
)
def test_an_object_that_the_server_cannot_give_while_it_gives_others_is_lost(
    server: Scripted, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(reading, "_AGAIN_SECONDS", 0)
    server.only = "/hsae/a/b"
    vars(server).update(answer)
    for read in (lambda: store.get("a/b"), lambda: store.check("a/b", sha256="0" * 64)):
        line = line_of(read, ObjectCorruptError)
        assert line.startswith(f"object a/b in bucket hsae is damaged ({reason}, while the server gives other objects)")
    assert server.n_requests == 4
    assert server.kept == {}


@pytest.mark.parametrize("answer", [_CUT_SHORT, _ROTTEN])
def test_a_server_that_gives_nothing_is_away(server: Scripted, store: ObjectStore, answer: dict[str, Any]) -> None:
    vars(server).update(answer)
    assert "S3 server" in line_of(lambda: store.get("a/b"), ServiceError)


def test_an_object_that_is_given_at_the_second_time_is_sound(server: Scripted, store: ObjectStore) -> None:
    """The server was restarted, say."""
    server.only, server.status, server.body = "/hsae/a/b", 500, fault("InternalError", "no volume yet")
    probe = store.probe

    def probe_and_fix() -> None:
        probe()
        server.status, server.body = 200, b"abc"

    store.probe = probe_and_fix  # type: ignore[method-assign]
    assert store.get("a/b") == b"abc"


def test_too_many_requests_for_one_object_are_no_damage(server: Scripted, store: ObjectStore) -> None:
    server.only, server.status, server.body = "/hsae/a/b", 503, fault("SlowDown", "Reduce your request rate.")
    assert "HTTP 503" in line_of(lambda: store.get("a/b"), ServiceError)


def test_what_fixes_a_lost_object() -> None:
    assert "submit again" in str(ObjectMissingError("saes/ab/sae.safetensors", "hsae"))
    assert "run `hsae-admin dataset add` again" in str(ObjectMissingError("datasets/ab/listing.parquet", "hsae"))


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
