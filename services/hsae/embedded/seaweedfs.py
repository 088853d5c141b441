"""The private SeaweedFS: the object store."""

import re
import secrets
import signal
import socket
from pathlib import Path
from typing import ClassVar

import urllib3
from minio import Minio
from minio.error import MinioException

from hsae.embedded import ports
from hsae.embedded.binaries import weed_binary
from hsae.embedded.server import Command, NotAnsweringError, Server

BUCKET = "hsae"
REGION = "us-east-1"
_CONNECT_SECONDS = 2
_SERVICES = ("s3", "master", "volume", "filer", "admin")
# With these keys the volume servers and the filer only serve requests that the S3 gateway signed.
_SIGNING_KEYS = (
    "WEED_JWT_SIGNING_KEY",
    "WEED_JWT_SIGNING_READ_KEY",
    "WEED_JWT_FILER_SIGNING_KEY",
    "WEED_JWT_FILER_SIGNING_READ_KEY",
)


class SeaweedFs(Server):
    """`weed mini`: master, volume server, filer and S3 gateway in one process, all on loopback."""

    name: ClassVar[str] = "seaweedfs"
    title: ClassVar[str] = "SeaweedFS"
    executable: ClassVar[str] = "weed"
    # Pairs, because parts of SeaweedFS assume that the gRPC port of a service is its HTTP port plus GRPC_OFFSET.
    port_groups: ClassVar[tuple[tuple[str, ...], ...]] = tuple((name, f"{name}_grpc") for name in _SERVICES)
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]] = ((signal.SIGTERM, 60.0),)
    trouble: ClassVar[re.Pattern[str] | None] = re.compile(r"^[EF]\d{4} ")

    def prepare(self) -> None:
        """Remove sockets of a killed predecessor."""
        self.clean_up()

    def command(self) -> Command:
        """`weed mini` in its data folder.

        Without -disableHttp, any web page in a browser on this machine could call the unauthenticated HTTP interface of
        the master and the filer, and delete everything. Paths are relative, because a path with a comma would be read
        as several folders, and a long path does not fit the address of a socket.
        """
        flags = {
            "dir": ".",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "disableHttp": "true",
            "admin.ui": "false",
            "webdav": "false",
            "filer.localSocket": "filer.sock",
            "s3.localSocket": "s3.sock",
            "s3.iam": "false",
            "s3.port.iceberg": "0",
            "s3.port.lance": "0",
            "master.telemetry": "false",
            "master.electionTimeout": "1s",
            "master.heartbeatInterval": "100ms",
            "master.resumeState": "false",
            "volume.preStopSeconds": "0",
        }
        for service in _SERVICES:
            flags[f"{service}.port"] = str(self.ports[service])
            flags[f"{service}.port.grpc"] = str(self.ports[f"{service}_grpc"])
        env = {
            "AWS_ACCESS_KEY_ID": self.credentials.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.credentials.s3_secret_key,
            "GOMEMLIMIT": "400MiB",
            **{
                name: secrets.token_hex(32) for name in _SIGNING_KEYS
            },  # tokens are valid for seconds, so new keys at each start do no harm
        }
        argv: tuple[str | Path, ...] = (
            weed_binary(),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in flags.items()),
        )
        return Command(argv, env)

    def probe(self) -> None:
        """Check health, then the bucket through S3, then the admin service, which starts last."""
        timeout = urllib3.Timeout(connect=2, read=10)
        with urllib3.PoolManager(timeout=timeout, retries=False) as pool:
            try:
                if (status := pool.request("GET", f"http://127.0.0.1:{self.port}/healthz").status) != 200:
                    raise NotAnsweringError(f"health check: HTTP {status}")
                client = Minio(
                    f"127.0.0.1:{self.port}",
                    access_key=self.credentials.s3_access_key,
                    secret_key=self.credentials.s3_secret_key,
                    region=REGION,
                    secure=False,
                    http_client=pool,
                )
                if not client.bucket_exists(BUCKET):
                    client.make_bucket(BUCKET)
                socket.create_connection(("127.0.0.1", self.ports["admin_grpc"]), timeout=_CONNECT_SECONDS).close()
            except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
                raise NotAnsweringError(str(error)) from error

    def clean_up(self) -> None:
        """Remove Unix sockets: a killed process leaves all of them, a stopped one some."""
        for name, port in self.ports.items():
            if name.endswith("_grpc"):
                ports.remove_grpc_sockets(port)
        for name in ("filer.sock", "s3.sock"):
            (self.folder / name).unlink(missing_ok=True)
