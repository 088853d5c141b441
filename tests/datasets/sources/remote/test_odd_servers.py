"""Servers that answer what no client asked for: one line each."""

import json

import pytest
from tests.datasets.sources.remote.test_http_tars import refused, tar
from tests.datasets.sources.remote.test_hub import COMMIT, hub
from tests.datasets.sources.remote.test_s3_tars import BUCKET, client, put
from tests.datasets.sources.remote.web_server import serving
from tests.datasets.sources.test_parquet import png

from hsae.errors import ServiceError, UserError

__all__ = ["client", "hub", "put"]
WHOLE = tar([("dog.n.01/1.png", png(1))])


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.mark.parametrize(
    ("there", "kind", "problem"),
    [
        ("http://[::1", UserError, "cannot be read (the server redirects to what is no URL)"),
        ("http://127.0.0.1:99999/x.tar", ServiceError, "the web server 127.0.0.1:99999 cannot be reached"),
        ("http://me:secret@127.0.0.1:1/x.tar", ServiceError, "the web server 127.0.0.1:1 cannot be reached"),
        ("http://a b/x.tar", ServiceError, "the web server a b cannot be reached"),
    ],
)
def test_redirects_to_what_is_no_place(server, there, kind, problem):
    server.redirects["/x.tar"] = there
    line = refused(f"{server.url}/x.tar", kind)
    assert problem in line
    assert "secret" not in line


def test_a_version_that_is_another_one_each_time(server):
    """Behind one address stand servers with different copies."""
    versions = iter(range(1000))

    def answer(request):
        first, _, last = request.headers["Range"].removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last) + 1, len(WHOLE))
        span = f"bytes {start}-{end - 1}/{len(WHOLE)}"
        return 206, {"Content-Range": span, "ETag": f'"{next(versions)}"'}, WHOLE[start:end]

    server.answers["/x.tar"] = answer
    line = refused(f"{server.url}/x.tar")
    assert line.endswith("after its start (the file on the server was replaced while it was read)")


def test_a_body_without_bytes_and_a_size_that_is_not_said(server):
    server.answers["/lies.tar"] = lambda request: (206, {"Content-Range": "bytes 0-0/99999"}, b"")
    assert "breaks time and again" in refused(f"{server.url}/lies.tar", ServiceError)
    server.answers["/silent.tar"] = lambda request: (206, {"Content-Range": "bytes 0-0/*"}, b"x")
    assert "gives no ranges of bytes" in refused(f"{server.url}/silent.tar")


ABOUT = {
    "a page": b"<html>Sign in to this network</html>",
    "nothing": b"",
    "a list": b"[]",
    "an object without fields": b"{}",
    "no commit": json.dumps({"id": "me/odd", "siblings": [{"rfilename": "train.parquet"}]}).encode(),
    "files of another kind": json.dumps({"id": "me/odd", "sha": COMMIT, "siblings": [{"name": "x"}]}).encode(),
    "names that are numbers": json.dumps({"id": "me/odd", "sha": COMMIT, "siblings": [{"rfilename": 7}]}).encode(),
}


@pytest.mark.parametrize("name", ABOUT)
def test_a_hub_that_answers_something_else(hub, name):
    hub.server.answers["/api/datasets/me/odd"] = hub.says(ABOUT[name])
    line = refused("hf:me/odd:train", ServiceError)
    assert line.startswith(f"hf:me/odd: {hub.server.url} does not answer like the hub")


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ("Not_A_Bucket/x.tar", "Not_A_Bucket"),
        ("a/x.tar", "s3://a"),
        ("10.0.0.1/x.tar", "10.0.0.1"),
        ("Not_A_Bucket/x*.tar", "Not_A_Bucket"),
        (f"{BUCKET}/../x.tar", "../x.tar"),
        (f"{BUCKET}/a//x.tar", "a//x.tar"),
        (f"{BUCKET}/./x.tar", "./x.tar"),
        (f"{BUCKET}/{'x' * 2000}.tar", "xxx"),
    ],
)
def test_buckets_and_keys_that_cannot_be(put, place, problem):
    assert problem in refused(f"s3://{place}")
