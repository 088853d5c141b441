"""The `minio` clients of one S3 server, made anew in a forked child."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from minio import Minio

from hsae.errors import UserError
from hsae.store.connection import SERVER_FAULTS, connection_pool


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """How an S3 server is reached.

    Attributes:
        endpoint: host and port, without a scheme.
        access_key: name of the account.
        secret_key: password of the account.
        region: the server's region.
        secure: whether to use TLS.
        silence_seconds: a connection that is silent for so long is given up.
    """

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    secure: bool
    silence_seconds: float


class S3Clients:
    """A client for everything but reads, and one for reads. Safe to share between threads and across a fork."""

    def __init__(self, access: ServerAccess) -> None:
        """Connects to nothing yet.

        Raises:
            UserError: the endpoint or the region cannot be one.
        """
        self._access = access
        self._pid = os.getpid()
        self._writing, self._reading = self._connect()

    @property
    def writing(self) -> Minio:
        """The client for everything but reads."""
        if self._pid != os.getpid():  # a forked child must not use its parent's sockets
            self._pid, (self._writing, self._reading) = os.getpid(), self._connect()
        return self._writing

    @property
    def reading(self) -> Minio:
        """A client that does not retry status 500, which `read_object` handles (SeaweedFS takes 14 s to answer it)."""
        _ = self.writing
        return self._reading

    def _connect(self) -> tuple[Minio, Minio]:
        return self._client(SERVER_FAULTS), self._client(SERVER_FAULTS[1:])

    def _client(self, repeated: Sequence[int]) -> Minio:
        access = self._access
        try:
            return Minio(
                access.endpoint,
                access_key=access.access_key,
                secret_key=access.secret_key,
                region=access.region,
                secure=access.secure,
                http_client=connection_pool(repeated=repeated, silence_seconds=access.silence_seconds),
            )
        except ValueError as error:
            raise UserError(
                f"the object store's settings are no good ({error}): "
                "HSAE_S3_ENDPOINT is host:port without a scheme, HSAE_S3_REGION a region's name"
            ) from error
