"""Choice of free loopback ports."""

import errno
import os
import random
import socket
from collections.abc import Collection
from pathlib import Path

from hsae.errors import ServiceError

# Below the ephemeral ports of every system, so that no outgoing connection takes one while the stack is down. The
# second port of a pair is GRPC_OFFSET above the first, and also below that range.
_FIRST, _LAST = 11_000, 22_700
GRPC_OFFSET = 10_000
_ATTEMPTS = 1000
_choice = random.SystemRandom()


def is_free(port: int) -> bool:
    """Whether no process listens on the port on any interface, and no other user has a SeaweedFS socket for it.

    SeaweedFS refuses a port that is taken on another interface. It also listens on
    `/tmp/seaweedfs-<service>-grpc-<port>.sock`, and cannot replace such a file of another user.
    """
    if not all(_is_mine(path) for path in grpc_sockets(port)):
        return False
    addresses = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0")]  # noqa: S104  (bound, never listening)
    if socket.has_ipv6:
        addresses.append((socket.AF_INET6, "::"))
    return all(_can_bind(family, address, port) for family, address in addresses)


def choose(group_size: int, taken: Collection[int]) -> tuple[int, ...]:
    """Choose `group_size` free ports, each GRPC_OFFSET above the one before, none of them in `taken`."""
    for _ in range(_ATTEMPTS):
        first = _choice.randint(_FIRST, _LAST)
        ports = tuple(first + index * GRPC_OFFSET for index in range(group_size))
        if not any(port in taken for port in ports) and all(is_free(port) for port in ports):
            return ports
    raise ServiceError(f"found no free loopback port between {_FIRST} and {_LAST}: close what listens there")


def grpc_sockets(port: int) -> list[Path]:
    """The Unix sockets that SeaweedFS creates for this gRPC port (their folder is not configurable)."""
    services = ("admin", "filer", "master", "s3", "volume")
    return [Path(f"/tmp/seaweedfs-{service}-grpc-{port}.sock") for service in services]  # noqa: S108


def remove_grpc_sockets(port: int) -> None:
    """Remove sockets that a killed SeaweedFS of this user left behind."""
    for path in grpc_sockets(port):
        if path.is_socket() and _is_mine(path):
            path.unlink(missing_ok=True)


def _is_mine(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except FileNotFoundError:
        return True


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Like the servers: a port with connections in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)  # no IPv6 here
    return True
