"""What the three servers have in common, and how one of them is brought up."""

import contextlib
import os
import re
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from hsae.embedded import ports, process
from hsae.embedded.process import ProcessRecord
from hsae.embedded.state import Credentials, StateFile
from hsae.errors import ServiceError

_POLL_SECONDS = 0.03
_PORT_ATTEMPTS = 5


class NotAnsweringError(Exception):
    """The server does not serve yet; the message says how that showed."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: arguments, and variables beyond `base_environment`."""

    argv: tuple[str | Path, ...]
    env: Mapping[str, str]


class Server(ABC):
    """One server of a stack. Data in `<home>/<name>`, which is also its working directory."""

    name: ClassVar[str]
    title: ClassVar[str]
    executable: ClassVar[str]  # the process's name
    port_groups: ClassVar[tuple[tuple[str, ...], ...]]  # the first port is the one that users connect to
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    start_seconds: ClassVar[float] = 120.0
    trouble: ClassVar[re.Pattern[str] | None] = None  # marks the line of the log that tells why it ended

    def __init__(self, home: Path, credentials: Credentials, chosen_ports: Mapping[str, int]) -> None:
        self.home = home
        self.folder = home / self.name
        self.log = home / "logs" / f"{self.name}.log"
        self.credentials = credentials
        self.ports = chosen_ports

    @classmethod
    def main_port(cls) -> str:
        """Name of the port that users connect to."""
        return cls.port_groups[0][0]

    @property
    def port(self) -> int:
        """The port that users connect to."""
        return self.ports[self.main_port()]

    @classmethod
    def end_strays(cls, home: Path) -> None:
        """End what a crash left of the server, or of its starter."""
        process.end_strays(home / cls.name, cls.executable)

    @abstractmethod
    def prepare(self) -> None:
        """Make the data folder ready for a start; also after a crash."""

    @abstractmethod
    def command(self) -> Command:
        """How to start it."""

    @abstractmethod
    def probe(self) -> None:
        """Use the server as a client does; NotAnsweringError when it does not serve."""

    def set_up(self) -> None:  # noqa: B027  (optional)
        """Make inside the answering server what the service needs there, where it is missing."""

    def clean_up(self) -> None:  # noqa: B027  (optional)
        """Remove what a stopped server leaves outside its folder."""


def base_environment(folder: Path) -> dict[str, str]:
    """A clean environment: no PG*, WEED_* or AWS_* variable of the user reaches a server."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def bring_up(kind: type[Server], home: Path, state: StateFile, cancelled: threading.Event) -> None:
    """Start the server unless it runs, and wait until it answers; ServiceError says why it does not.

    A server that dies because somebody took one of its ports in the meantime is started again on other ports.
    """
    record = state.server(kind.name)
    for attempt in range(_PORT_ATTEMPTS):
        if not process.is_alive(record):
            kind.end_strays(home)
            state.claim_ports(kind.port_groups)
        server = kind(
            home, state.credentials, {name: state.ports[name] for group in kind.port_groups for name in group}
        )
        log_start = process.log_size(server.log)
        if record is None or not process.is_alive(record):
            record = _launch(server, state)
        if _wait_until_answering(server, record, log_start, cancelled):
            server.set_up()
            return
        taken = [port for port in server.ports.values() if not ports.is_free(port)]
        if not taken or attempt == _PORT_ATTEMPTS - 1:
            raise _failure(server, "stopped right after its start", log_start)


def shut_down(kind: type[Server], home: Path, state: StateFile) -> None:
    """Stop the server and whatever a crash left of it; nothing happens when there is nothing."""
    record = state.server(kind.name)
    if record is not None:
        process.stop(record, kind.stop_signals)
    kind.end_strays(home)
    names = [name for group in kind.port_groups for name in group]
    if all(name in state.ports for name in names):
        kind(home, state.credentials, {name: state.ports[name] for name in names}).clean_up()
    with contextlib.suppress(OSError):  # a full disk keeps nobody from stopping; a dead record harms nobody
        state.set_server(kind.name, None)


def _launch(server: Server, state: StateFile) -> ProcessRecord:
    server.folder.mkdir(mode=0o700, exist_ok=True)
    server.prepare()
    command = server.command()
    record = process.spawn(
        command.argv,
        log=server.log,
        env={**base_environment(server.folder), **command.env},
        cwd=server.folder,
        umask=0o077,
    )
    state.set_server(server.name, record)
    return record


def _wait_until_answering(server: Server, record: ProcessRecord, log_start: int, cancelled: threading.Event) -> bool:
    """True once the server answers, False when its process ended; ServiceError when time is up."""
    deadline = time.monotonic() + server.start_seconds
    while process.is_alive(record):
        try:
            server.probe()
        except NotAnsweringError as error:
            if time.monotonic() > deadline:
                reason = f"did not answer within {server.start_seconds:.0f} s ({error})"
                raise _failure(server, reason, log_start) from error
        else:
            # Whoever answered on its port was somebody else if it is dead by now.
            return process.is_alive(record)
        if cancelled.wait(_POLL_SECONDS):
            raise ServiceError(f"the start of {server.title} was broken off")
    return False


def _failure(server: Server, what: str, log_start: int) -> ServiceError:
    line = process.telling_line(server.log, since=log_start, trouble=server.trouble)
    return ServiceError(f"{server.title} {what}: {line} (log: {server.log})")
