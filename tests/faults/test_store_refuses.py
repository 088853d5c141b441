"""The S3 server away for longer than its client tries, answering 503 to everything, or refusing the keys.

The jobs wait and end as if nothing had happened: an outage costs no attempt.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.faults.standing import Standing
from tests.waiting import rows_of, wait_for

_SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class _Unwilling(BaseHTTPRequestHandler):
    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(503)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(_SLOW_DOWN)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(_SLOW_DOWN)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def _away(standing: Standing) -> Iterator[None]:
    standing.end_server("seaweedfs")
    yield
    standing.stack.start()


@contextmanager
def _answers_503(standing: Standing) -> Iterator[None]:
    standing.end_server("seaweedfs")
    host, port = standing.service.settings.s3_endpoint.split(":")
    with ThreadingHTTPServer((host, int(port)), _Unwilling) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
    standing.stack.start()


@contextmanager
def _other_secret(standing: Standing) -> Iterator[None]:
    """The server knows the key with another secret, as after a rotation that forgot the workers."""
    state = standing.stack.home / "servers.json"
    kept = json.loads(state.read_text())["credentials"]
    standing.end_server("seaweedfs")
    _edit_credentials(state, {**kept, "s3_secret_key": "0" * 48})
    standing.stack.start()
    yield
    standing.end_server("seaweedfs")
    _edit_credentials(state, kept)
    standing.stack.start()


def _edit_credentials(state, credentials: dict[str, str]) -> None:
    state.write_text(json.dumps({**json.loads(state.read_text()), "credentials": credentials}))


@pytest.mark.parametrize(
    ("kind", "fault", "message"),
    [
        ("train", _away, "cannot be reached"),
        ("extract", _answers_503, "HTTP 503"),
        ("train", _other_secret, "SignatureDoesNotMatch: the secret key does not belong to the access key"),
    ],
)
def test_jobs_wait_for_the_store(standing, kind, fault, message):
    service = standing.service
    plan = standing.submit_from(kind)
    standing.wait_for_middle(kind)
    with fault(standing):
        outages = "SELECT 1 FROM job WHERE kind = :kind AND outages > 0 AND error LIKE :error"
        wait_for(lambda: rows_of(service, outages, kind=kind, error=f"%{message}%"), 240, service.logs)
    jobs = standing.check_finished(plan)
    assert {(job["attempt"], job["error"]) for job in jobs} == {(1, None)}, service.logs()
    assert max(job["outages"] for job in jobs) >= 1
