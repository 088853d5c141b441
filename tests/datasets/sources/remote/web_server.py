"""A web server on loopback that gives ranges of its files, and misbehaves where a test wants it to."""

import hashlib
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WebFiles(ThreadingHTTPServer):
    """Gives `files` by their paths, and notes what was asked for.

    `redirects` lead elsewhere, `login` is asked for, `statuses` are answered in place of files, `breaks` says after how
    many bytes the connection of an answer breaks, and `answers` are functions that answer a path themselves.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.answers: dict[str, Callable[[Any], tuple[int, dict[str, str], bytes]]] = {}
        self.breaks: list[int] = []
        self.login: str | None = None
        self.ranges = True
        self.asked: list[tuple[str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def sent_bytes(self, path: str) -> int:
        """How many bytes of a file were asked for."""
        total = 0
        for asked, span, _ in self.asked:
            if asked == path:
                first, _, last = (span or "").removeprefix("bytes=").partition("-")
                total += int(last) - int(first) + 1
        return total


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebFiles

    def do_GET(self) -> None:
        server, path = self.server, self.path
        server.asked.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        plain = path.partition("?")[0]
        if plain in server.answers:
            self.answer(*server.answers[plain](self))
        elif plain in server.redirects:
            self.answer(302, {"Location": server.redirects[plain]}, b"")
        elif server.login is not None and self.headers.get("Authorization") != (
            f"Basic {b64encode(server.login.encode()).decode()}"
        ):
            self.answer(401, {}, b"")
        elif plain in server.statuses:
            self.answer(server.statuses[plain], {}, b"")
        elif plain not in server.files:
            self.answer(404, {}, b"")
        else:
            self.give(server.files[plain])

    do_HEAD = do_GET  # noqa: N815

    def give(self, content: bytes) -> None:
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        span = self.headers.get("Range")
        if span is None or not self.server.ranges:
            self.answer(200, headers, content)
            return
        first, _, last = span.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1 if last else len(content), len(content))
        if start >= len(content):
            self.answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self.answer(206, headers, content[start:end])

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.breaks and len(body) > self.server.breaks[0]:
            self.wfile.write(body[: self.server.breaks.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[WebFiles]:
    """The server for the block."""
    server = WebFiles()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
