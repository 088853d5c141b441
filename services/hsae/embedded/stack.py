"""The private stack: three servers and further processes, which outlive the command that started them."""

import contextlib
import os
import re
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from hsae.embedded import process
from hsae.embedded.postgres import DATABASE, ROLE, Postgres
from hsae.embedded.process import ProcessRecord
from hsae.embedded.seaweedfs import BUCKET, SeaweedFs
from hsae.embedded.server import Server, bring_up, shut_down
from hsae.embedded.state import StateFile, locked, prepare_home, remove_settings, require_space, write_settings
from hsae.embedded.valkey import Valkey
from hsae.errors import ServiceError, UserError

SERVERS: tuple[type[Server], ...] = (Postgres, Valkey, SeaweedFs)
_PROCESS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,40}")
_MOVED_GRACE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class StackInfo:
    """How to reach a running stack; the fields are the settings in `stack.json`."""

    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str = field(repr=False)
    s3_bucket: str

    def environment(self) -> dict[str, str]:
        """The fields as `HSAE_*` variables."""
        return {f"HSAE_{name.upper()}": value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server; or, with `port` None, one further process of the stack."""

    name: str
    running: bool
    pid: int | None
    port: int | None


@dataclass(frozen=True, slots=True)
class StackStatus:
    """The processes of a stack at one moment."""

    home: Path
    servers: tuple[ServerStatus, ...]
    processes: tuple[ServerStatus, ...]

    @property
    def running(self) -> bool:
        """Whether all three servers run."""
        return all(server.running for server in self.servers)


class Stack:
    """The stack with its data in the folder `home`.

    Any process may call any method at any time: a lock in `home` serialises changes. As a context manager it starts the
    stack, and stops it at the end.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.expanduser().absolute()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> StackInfo:
        """Start the servers that do not run, wait until all answer, and write `stack.json`.

        If it fails, the servers that this call started are stopped.

        Where a server had to take another port, further processes that still run are stopped: they would look for
        it at the old one for ever.

        Raises:
            ServiceError: a server does not start; the message names its log file.
            UserError: the servers are not installed, the home cannot be used, or the disk is full.
        """
        with self._reporting(), self._prepared() as state:
            require_space(self.home)
            before = dict(state.ports)
            self._start_servers(state)
            if any(state.ports[name] != port for name, port in before.items()):
                for name in tuple(state.processes):
                    self._stop_process(state, name, grace_seconds=_MOVED_GRACE_SECONDS)
            info = self._info(state)
            write_settings(self.home, asdict(info))
            return info

    def stop(self, *, grace_seconds: float = 10.0) -> None:
        """Stop the further processes like `stop_process`, then the servers. The data stay.

        Does nothing if nothing runs.
        """
        with self._reporting():
            if not self.home.is_dir() or StateFile.read(self.home) is None:
                return
            with locked(self.home):
                state = StateFile.read(self.home)
                if state is None:
                    return
                remove_settings(self.home)
                for name in state.processes:
                    self._stop_process(state, name, grace_seconds=grace_seconds)
                self._stop_servers(state, SERVERS)

    def status(self) -> StackStatus:
        """Which processes run."""
        with self._reporting():
            state = StateFile.read(self.home)
        if state is None:
            return StackStatus(self.home, tuple(ServerStatus(kind.name, False, None, None) for kind in SERVERS), ())
        servers = (_status(kind.name, state.server(kind.name), state.ports.get(kind.main_port())) for kind in SERVERS)
        processes = (_status(name, record, None) for name, record in state.processes.items())
        return StackStatus(self.home, tuple(servers), tuple(processes))

    def info(self) -> StackInfo:
        """How to reach the running stack.

        Raises:
            UserError: not all servers run.
        """
        with self._reporting():
            state = StateFile.read(self.home)
        if state is None or not all(process.is_alive(state.server(kind.name)) for kind in SERVERS):
            raise UserError(f"the private stack in {self.home} is not running: start it with hsae-admin up")
        return self._info(state)

    def log_file(self, name: str) -> Path:
        """The log file of a server or further process."""
        return self.home / "logs" / f"{name}.log"

    def start_process(
        self,
        name: str,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        *,
        ready: Callable[[], bool] | None = None,
        ready_seconds: float = 60.0,
    ) -> int:
        """Start a further process of the stack, such as a worker, unless it runs.

        Args:
            name: name of the process.
            argv: program and arguments; working directory and environment are inherited.
            env: additional variables.
            ready: wait until this returns True; None: do not wait.
            ready_seconds: how long to wait at most.

        Returns:
            The pid.

        Raises:
            ServiceError: the process ended or was not ready in time.
        """
        if not _PROCESS_NAME.fullmatch(name) or any(name == kind.name for kind in SERVERS):
            raise ValueError(f"not usable as a process's name: {name!r}")
        with self._reporting(), self._prepared() as state:
            record = state.processes.get(name)
            if record is not None and process.is_alive(record):
                return record.pid
            if record is not None:
                process.kill_family(record)
            log = self.log_file(name)
            log_start = process.log_size(log)
            token = secrets.token_hex(16)
            record = process.spawn(argv, log=log, env={**os.environ, **(env or {})}, token=token)
            state.set_process(name, record)
            if ready is not None:
                try:
                    self._wait_until_ready(name, record, ready, ready_seconds, log_start)
                except BaseException:
                    self._stop_process(state, name, grace_seconds=1.0)
                    raise
            return record.pid

    def stop_process(self, name: str, *, grace_seconds: float = 10.0) -> None:
        """Send SIGTERM to the process, and after `grace_seconds` SIGKILL to it and all of its descendants."""
        with self._reporting():
            if not self.home.is_dir():
                return
            with locked(self.home):
                state = StateFile.read(self.home)
                if state is not None and name in state.processes:
                    self._stop_process(state, name, grace_seconds=grace_seconds)

    def _start_servers(self, state: StateFile) -> None:
        down = [kind for kind in SERVERS if not process.is_alive(state.server(kind.name))]
        if down:
            remove_settings(self.home)
        cancelled = threading.Event()
        try:
            with ThreadPoolExecutor(len(SERVERS), thread_name_prefix="hsae-stack") as threads:
                starts = [threads.submit(bring_up, kind, self.home, state, cancelled) for kind in SERVERS]
                try:
                    _wait_for_first_failure(starts)
                finally:
                    cancelled.set()  # the other servers need not wait any longer
        except BaseException:
            self._stop_servers(state, down)
            raise

    def _stop_servers(self, state: StateFile, kinds: Sequence[type[Server]]) -> None:
        if not kinds:
            return
        with ThreadPoolExecutor(len(kinds), thread_name_prefix="hsae-stack") as threads:
            stops = [threads.submit(shut_down, kind, self.home, state) for kind in kinds]
        for stop in stops:
            stop.result()

    def _stop_process(self, state: StateFile, name: str, *, grace_seconds: float) -> None:
        record = state.processes[name]
        process.stop(record, [(signal.SIGTERM, grace_seconds)])
        process.kill_family(record)
        with contextlib.suppress(OSError):  # as in shut_down
            state.set_process(name, None)

    def _wait_until_ready(
        self, name: str, record: ProcessRecord, ready: Callable[[], bool], seconds: float, log_start: int
    ) -> None:
        answered = process.wait_for(lambda: not process.is_alive(record) or ready(), seconds)
        if answered and process.is_alive(record):
            return
        what = f"was not ready within {seconds:.0f} s" if not answered else "stopped right after its start"
        log = self.log_file(name)
        raise ServiceError(f"{name} {what}: {process.telling_line(log, since=log_start)} (log: {log})")

    def _info(self, state: StateFile) -> StackInfo:
        secret, ports = state.credentials, state.ports
        return StackInfo(
            database_url=f"postgresql://{ROLE}:{secret.postgres_password}@127.0.0.1:{ports['postgres']}/{DATABASE}",
            broker_url=f"redis://:{secret.valkey_password}@127.0.0.1:{ports['valkey']}/0",
            s3_endpoint=f"127.0.0.1:{ports['s3']}",
            s3_access_key=secret.s3_access_key,
            s3_secret_key=secret.s3_secret_key,
            s3_bucket=BUCKET,
        )

    @contextlib.contextmanager
    def _prepared(self) -> Iterator[StateFile]:
        """Create the home if necessary; yield its state while holding its lock."""
        prepare_home(self.home)
        with locked(self.home):
            yield StateFile.read(self.home) or StateFile.create(self.home)

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Turn errors of the operating system (disk full, no permission) into one line for the user."""
        try:
            yield
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            raise UserError(f"private stack in {self.home}: {error.strerror or error}{where}") from error


def _status(name: str, record: ProcessRecord | None, port: int | None) -> ServerStatus:
    if record is None or not process.is_alive(record):
        return ServerStatus(name, False, None, port)
    return ServerStatus(name, True, record.pid, port)


def _wait_for_first_failure(starts: Sequence[Future[None]]) -> None:
    """Wait until all are done, or raise the exception of the first one that fails."""
    done, _ = wait(starts, return_when=FIRST_EXCEPTION)
    for start in done:
        start.result()
