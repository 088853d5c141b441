"""No pinned package has a known vulnerability, where the database of them can be asked."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit"


def _audit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(AUDIT), *arguments], capture_output=True, text=True, check=False, timeout=300
    )


def test_no_pinned_package_has_a_known_vulnerability():
    done = _audit()
    if done.stdout.startswith("skipped:"):
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unreachable_database_is_no_failure():
    done = _audit("--osv-url", "http://127.0.0.1:1/v1/query")
    assert done.returncode == 0
    assert done.stdout.startswith("skipped: the vulnerability database http://127.0.0.1:1/v1/query")


class _Database(BaseHTTPRequestHandler):
    """Answers as OSV does, and knows one vulnerability: of the Pillow that is pinned."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.add(query["package"]["name"].lower())  # type: ignore[attr-defined]
        known = {
            "vulns": [
                {
                    "id": "PYSEC-0000-1", "aliases": [], "summary": "made up", "published": "2026-01-01T00:00:00Z",
                    "modified": "2026-01-01T00:00:00Z",
                    "affected": [{
                        "package": {"name": "pillow", "ecosystem": "PyPI"},
                        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}],
                    }],
                }
            ]
        }  # fmt: skip
        body = json.dumps(known if query["package"]["name"] == "pillow" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def test_every_pin_is_looked_up_and_a_known_vulnerability_fails():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Database) as server:
        server.asked = set()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = _audit("--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query")
        server.shutdown()
    assert done.returncode == 1, done.stdout + done.stderr
    assert "PYSEC-0000-1" in done.stdout
    assert {"torch", "celery", "sqlalchemy", "minio"} <= server.asked  # type: ignore[attr-defined]
