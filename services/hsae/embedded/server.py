"""Base class of the three servers, and how one of them is started and stopped."""

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
    """The server does not serve yet; the message is the reason."""


@dataclass(frozen=True, slots=True)
class Command:
    """How to start a server: arguments, and variables in addition to `base_environment`."""

    argv: tuple[str | Path, ...]
    env: Mapping[str, str]


class Server(ABC):
    """One server of a stack. Its data are in `<home>/<name>`, which is also its working directory."""

    name: ClassVar[str]
    title: ClassVar[str]
    executable: ClassVar[str]  # the process's name
    port_groups: ClassVar[tuple[tuple[str, ...], ...]]  # the first port is the one that users connect to
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]
    start_seconds: ClassVar[float] = 120.0
    trouble: ClassVar[re.Pattern[str] | None] = None  # matches the log line that says why it ended

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
        """End processes that a crash of the server or of its starter left behind."""
        process.end_strays(home / cls.name, cls.executable)

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the data folder for a start, also after a crash."""

    @abstractmethod
    def command(self) -> Command:
        """The command that starts the server."""

    @abstractmethod
    def probe(self) -> None:
        """Use the server as a client.

        Raises:
            NotAnsweringError: it does not serve.
        """

    def set_up(self) -> None:  # noqa: B027  (optional)
        """Create what the service needs inside the running server, if it is missing."""

    def clean_up(self) -> None:  # noqa: B027  (optional)
        """Remove files that a stopped server leaves outside its folder."""


def base_environment(folder: Path) -> dict[str, str]:
    """A clean environment, without the user's PG*, WEED_* and AWS_* variables."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"}


def bring_up(kind: type[Server], home: Path, state: StateFile, cancelled: threading.Event) -> None:
    """Start the server unless it runs, and wait until it answers.

    A server that ends because another program took one of its ports is started again on other ports.

    Raises:
        ServiceError: the server does not answer; the message is the reason.
    """
    record = state.server(kind.name)
    # By hand, not with tenacity: an attempt goes on with what the last one left, a process or its ports.
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
    """Stop the server and the remains of a crash, if there are any."""
    record = state.server(kind.name)
    if record is not None:
        process.stop(record, kind.stop_signals)
    kind.end_strays(home)
    names = [name for group in kind.port_groups for name in group]
    if all(name in state.ports for name in names):
        kind(home, state.credentials, {name: state.ports[name] for name in names}).clean_up()
    with contextlib.suppress(OSError):  # a full disk must not prevent stopping; an outdated record does no harm
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
    """True once the server answers, False if its process ended.

    Raises:
        ServiceError: the server does not answer in time.
    """
    deadline = time.monotonic() + server.start_seconds
    # By hand, not with tenacity: it ends with the process as well, which says more than the last error.
    while process.is_alive(record):
        try:
            server.probe()
        except NotAnsweringError as error:
            if time.monotonic() > deadline:
                reason = f"did not answer within {server.start_seconds:.0f} s ({error})"
                raise _failure(server, reason, log_start) from error
        else:
            # If the server has ended by now, another program answered on its port.
            return process.is_alive(record)
        if cancelled.wait(_POLL_SECONDS):
            raise ServiceError(f"the start of {server.title} was broken off")
    return False


def _failure(server: Server, what: str, log_start: int) -> ServiceError:
    line = process.telling_line(server.log, since=log_start, trouble=server.trouble)
    return ServiceError(f"{server.title} {what}: {line} (log: {server.log})")
