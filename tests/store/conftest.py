"""A real S3 server: the SeaweedFS of a private stack that these tests share."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import torch

from hsae.embedded import Stack
from hsae.store.objects import ObjectStore

torch.set_num_threads(1)


class S3Server:
    """The S3 server of a running stack; it keeps its port and its data over a restart."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        info = stack.info()
        self.endpoint = info.s3_endpoint
        self.access_key = info.s3_access_key
        self.secret_key = info.s3_secret_key

    def kill(self) -> None:
        while pid := next(each.pid for each in self._stack.status().servers if each.name == "seaweedfs"):
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def start(self) -> None:
        self._stack.start()


@pytest.fixture(scope="package")
def s3_server() -> Iterator[S3Server]:
    home = Path(tempfile.mkdtemp(prefix="hsae-store-"))
    with Stack(home) as stack:
        yield S3Server(stack)
    shutil.rmtree(home)


def new_store(server: S3Server, bucket: str | None = None, **keys: str) -> ObjectStore:
    access_key, secret_key = keys.get("access_key", server.access_key), keys.get("secret_key", server.secret_key)
    return ObjectStore(
        server.endpoint, bucket=bucket or f"hsae-{uuid4().hex[:12]}", access_key=access_key, secret_key=secret_key
    )


@pytest.fixture(scope="module")
def store(s3_server: S3Server) -> ObjectStore:
    """A store with an empty bucket of its own."""
    fresh = new_store(s3_server)
    fresh.ensure_bucket()
    return fresh
