"""HTTP connections to the S3 server: retries, and how soon a dead connection is noticed.

Every timeout limits silence, never a whole transfer: a slow server that makes progress is not cut off.
"""

import socket
from collections.abc import Collection
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from hsae.settings import SILENCE_SECONDS

CONNECT_TIMEOUT_SECONDS = 5.0
_PAUSE_FACTOR_SECONDS = 0.3
_MAX_PAUSE_SECONDS = 1.5
_N_CONNECTIONS = 16
_BLOCK_BYTES = 1 << 16
# After the last byte of a PUT a slow disk may still have to write what the server has buffered.
_SLOWEST_BYTES_PER_SECOND = 4 << 20
SERVER_FAULTS = (500, 502, 503, 504)


def connection_pool(
    *, repeated: Collection[int] = SERVER_FAULTS, silence_seconds: float = SILENCE_SECONDS
) -> urllib3.PoolManager:
    """Connections that ride out a restart of the server of some seconds, and notice when one is dead.

    Args:
        repeated: the HTTP statuses after which a request is tried again.
        silence_seconds: how long a connection may be silent. A request to a server that accepts it and says nothing is
            tried six times, so that a server which is suspended for a minute is ridden out.
    """
    retry = urllib3.Retry(
        total=6,
        read=5,
        status=3,
        redirect=1,
        other=0,  # TLS
        backoff_factor=_PAUSE_FACTOR_SECONDS,
        backoff_max=_MAX_PAUSE_SECONDS,  # sleeps 0, 0.6, 1.2, 1.5, 1.5, ...: 6 s outlast a restart of the server
        status_forcelist=repeated,
        allowed_methods=None,  # each of our requests may be repeated
        raise_on_status=False,  # the last answer tells more than "too many 500s"
        respect_retry_after_header=False,  # it could ask for hours
    )
    return _PoolManager(silence_seconds, retry)


class _PoolManager(urllib3.PoolManager):
    def __init__(self, silence_seconds: float, retry: urllib3.Retry) -> None:
        super().__init__(maxsize=_N_CONNECTIONS, retries=retry, socket_options=_socket_options(silence_seconds))
        self._silence_seconds = silence_seconds
        self.pool_classes_by_scheme = {  # they are only called
            "http": partial(_HttpPool, silence_seconds=silence_seconds),  # type: ignore[dict-item]
            "https": partial(_HttpsPool, silence_seconds=silence_seconds),  # type: ignore[dict-item]
        }

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        writing = len(kw.get("body") or b"") / _SLOWEST_BYTES_PER_SECOND
        kw["timeout"] = urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=self._silence_seconds + writing)
        return super().urlopen(method, url, redirect, **kw)


class _InBlocks:
    """Sends a body block by block.

    Python's limit of a send is one for all of its bytes: a large object would be cut off however well it proceeds.
    """

    sock: socket.socket | None

    def __init__(self, *args: Any, silence_seconds: float, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._silence_seconds = silence_seconds

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        assert self.sock is not None  # noqa: S101 -- narrows the type
        self.sock.settimeout(self._silence_seconds)

    def send(self, data: Any) -> None:
        if self.sock is not None:  # else it is connected now; a kept one has the limit of its last answer
            self.sock.settimeout(self._silence_seconds)
        whole = memoryview(data)
        for start in range(0, max(len(whole), 1), _BLOCK_BYTES):
            super().send(whole[start : start + _BLOCK_BYTES])  # type: ignore[misc]


class _HttpConnection(_InBlocks, HTTPConnection):
    pass


class _HttpsConnection(_InBlocks, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


def _socket_options(silence_seconds: float) -> list[tuple[int, int, int]]:
    """The kernel notices, too, when the other machine is gone, also on a connection that is idle or awaits an answer.

    Not every system has every option.
    """
    third = max(1, round(silence_seconds / 3))
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    wanted = {
        "TCP_KEEPIDLE": third,
        "TCP_KEEPINTVL": third,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": round(1000 * silence_seconds),
    }
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    return options
