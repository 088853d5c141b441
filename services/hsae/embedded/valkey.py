"""The private Valkey: the broker, which notifies workers of jobs."""

import signal
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsae.embedded.binaries import valkey_binary
from hsae.embedded.server import Command, NotAnsweringError, Server
from hsae.embedded.state import write_private

_CONFIG_NAME = "valkey.conf"
_CONNECT_SECONDS = 2
_ANSWER_SECONDS = 5


class Valkey(Server):
    """One password-protected instance on loopback that logs every write to its append-only file."""

    name: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey"
    executable: ClassVar[str] = "valkey-server"
    port_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("valkey",),)
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]] = ((signal.SIGTERM, 60.0),)

    def prepare(self) -> None:
        """Write the configuration file: on a command line every user of the machine could read the password."""
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self.credentials.valkey_password,
            "dir": ".",  # the working directory
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',  # the append-only file holds everything
            "daemonize": "no",
            "logfile": '""',
            "always-show-logo": "no",
        }
        write_private(self.folder / _CONFIG_NAME, "\n".join(f"{name} {value}" for name, value in settings.items()))

    def command(self) -> Command:
        """`valkey-server valkey.conf`."""
        return Command((valkey_binary(), _CONFIG_NAME), {})

    def probe(self) -> None:
        """PING with the password."""
        client = redis.Redis(
            host="127.0.0.1",
            port=self.port,
            password=self.credentials.valkey_password,
            socket_connect_timeout=_CONNECT_SECONDS,
            socket_timeout=_ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            client.close()
