"""Serves the explorer with uvicorn, on an address that is checked first."""

import socket

import uvicorn

from hsae.errors import UserError
from hsae.explorer.app import LOOPBACK, make_app
from hsae.explorer.reading.sources import Cache, Sources
from hsae.explorer.shown.rendering import prepare
from hsae.settings import Settings


class Explorer:
    """The explorer on an address of its own; port 0 takes a free one.

    Raises:
        UserError: the address cannot be used, or the catalog or the store cannot.
    """

    def __init__(self, settings: Settings, cache: Cache, *, host: str, port: int, hosts: tuple[str, ...] = ()) -> None:
        self._socket = _listen(host, port)
        self.port = int(self._socket.getsockname()[1])
        try:
            self._sources = Sources(settings, cache)
        except BaseException:
            self._socket.close()
            raise
        prepare()
        app = make_app(self._sources, (*LOOPBACK, host, *hosts))
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        try:
            self._server.run([self._socket])
        finally:
            self._socket.close()
            self._sources.close()

    def stop(self) -> None:
        """Let `run` end, from another thread."""
        self._server.should_exit = True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    return host in LOOPBACK or host.startswith("127.")


def _listen(host: str, port: int) -> socket.socket:
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, kind, protocol)
    except UnicodeError as error:  # an empty label, or one of more than 63 characters
        raise UserError(f"cannot listen on {host}:{port} (this is no name of a host): choose another --host") from error
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port} ({error.strerror or error}): choose another --host") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): choose another --port, or 0 for a free one"
        ) from error
    return listening


__all__ = ["Cache", "Explorer", "is_loopback"]
