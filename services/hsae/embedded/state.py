"""Files of a stack: `servers.json` (secrets, ports, processes), `stack.json` (settings), and its lock."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from hsae.embedded import ports
from hsae.embedded.process import ProcessRecord
from hsae.errors import ServiceError, UserError
from hsae.settings import STACK_FILE_NAME

STATE_FILE_NAME = "servers.json"
LOCK_FILE_NAME = "servers.lock"
_LOCK_SECONDS = 600.0
_LOCK_POLL_SECONDS = 0.05
_NEW_STACK_BYTES = 64_000_000  # an empty Postgres and its first log segment


class Credentials(BaseModel):
    """Random secrets of one stack, created once."""

    postgres_admin_password: str = Field(default_factory=lambda: secrets.token_hex(24), repr=False)
    postgres_password: str = Field(default_factory=lambda: secrets.token_hex(24), repr=False)
    valkey_password: str = Field(default_factory=lambda: secrets.token_hex(24), repr=False)
    s3_access_key: str = Field(default_factory=lambda: f"hsae{secrets.token_hex(8)}")
    s3_secret_key: str = Field(default_factory=lambda: secrets.token_hex(24), repr=False)


class StackState(BaseModel):
    """The content of `servers.json`; `servers` and `processes` are by name."""

    version: Literal[1] = 1
    credentials: Credentials = Field(default_factory=Credentials)
    ports: dict[str, int] = Field(default_factory=dict)
    servers: dict[str, ProcessRecord] = Field(default_factory=dict)
    processes: dict[str, ProcessRecord] = Field(default_factory=dict)


class StateFile:
    """`servers.json` of one home, written at every change; safe to use from several threads."""

    def __init__(self, path: Path, state: StackState) -> None:
        self._path = path
        self._state = state
        self._mutex = threading.Lock()

    @classmethod
    def read(cls, home: Path) -> "StateFile | None":
        """The state of `home`; None if no stack was ever started there.

        Raises:
            UserError: the file is damaged.
        """
        path = home / STATE_FILE_NAME
        try:
            return cls(path, StackState.model_validate_json(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise UserError(
                f"{path} is damaged or of another version of hsae: restore it, or delete {home} with all its data"
            ) from error

    @classmethod
    def create(cls, home: Path) -> "StateFile":
        """A new state with new credentials.

        Raises:
            UserError: there are data that the new credentials could not open.
        """
        if (home / "postgres" / "PG_VERSION").exists():
            raise UserError(
                f"{home} holds the data of a stack but no {STATE_FILE_NAME} with its credentials: "
                "restore that file, delete the folder, or choose another with --home"
            )
        file = cls(home / STATE_FILE_NAME, StackState())
        file._save()
        return file

    @property
    def credentials(self) -> Credentials:
        """The stack's secrets."""
        return self._state.credentials

    @property
    def ports(self) -> Mapping[str, int]:
        """All ports chosen so far, by name."""
        return self._state.ports

    def server(self, name: str) -> ProcessRecord | None:
        """The process that was last started for a server."""
        return self._state.servers.get(name)

    @property
    def processes(self) -> Mapping[str, ProcessRecord]:
        """The further processes that belong to the stack."""
        return dict(self._state.processes)

    def set_server(self, name: str, record: ProcessRecord | None) -> None:
        """Record the process of a server; None removes it."""
        self._set(self._state.servers, name, record)

    def set_process(self, name: str, record: ProcessRecord | None) -> None:
        """Record a further process; None removes it."""
        self._set(self._state.processes, name, record)

    def claim_ports(self, groups: Collection[tuple[str, ...]]) -> None:
        """Assign ports to every group of names: the old ones if they are free, otherwise new ones."""
        with self._mutex:
            for group in groups:
                chosen = [self._state.ports.get(name) for name in group]
                if all(port is not None and ports.is_free(port) for port in chosen):
                    continue
                taken = set(self._state.ports.values())
                self._state.ports.update(zip(group, ports.choose(len(group), taken), strict=True))
            self._save()

    def _set(self, records: dict[str, ProcessRecord], name: str, record: ProcessRecord | None) -> None:
        with self._mutex:
            records.pop(name, None)
            if record is not None:
                records[name] = record
            self._save()

    def _save(self) -> None:
        write_private(self._path, self._state.model_dump_json(indent=1))


def prepare_home(home: Path) -> None:
    """Create the folder, private to this user.

    Raises:
        UserError: an existing folder cannot be used.
    """
    if home.exists() and not home.is_dir():
        raise UserError(f"{home} is not a folder: choose another --home")
    home.parent.mkdir(parents=True, exist_ok=True)
    home.mkdir(mode=0o700, exist_ok=True)
    found = home.stat()
    used = home / STATE_FILE_NAME
    if used.exists() and used.stat().st_uid != os.geteuid():
        raise UserError(
            f"the stack in {home} belongs to user id {used.stat().st_uid}: run as that user or choose another --home"
        )
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        if not used.exists() and any(home.iterdir()):
            # Do not change its mode: it might be a home folder or /tmp.
            raise UserError(f"{home} is neither empty nor private: choose another --home, or chmod 700 it")
        home.chmod(0o700)
    (home / "logs").mkdir(mode=0o700, exist_ok=True)


def require_space(home: Path) -> None:
    """Refuse a disk on which a new stack has no room.

    The servers start side by side: on a full disk any of them may be the first to fail, and its log with it.

    Raises:
        UserError: Postgres has no data yet and could not make them.
    """
    free = shutil.disk_usage(home).free
    if not (home / "postgres" / "PG_VERSION").exists() and free < _NEW_STACK_BYTES:
        raise UserError(
            f"the disk of {home} has {free // 10**6} MB left, and a new private stack needs "
            f"{_NEW_STACK_BYTES // 10**6} MB: free some space, or choose another folder with --home"
        )


def write_settings(home: Path, settings: Mapping[str, str]) -> None:
    """Write `stack.json`, which `hsae.settings.Settings` reads."""
    write_private(home / STACK_FILE_NAME, json.dumps(settings, indent=1))


def remove_settings(home: Path) -> None:
    """Remove `stack.json`, so that the stack does not look as if it ran."""
    (home / STACK_FILE_NAME).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace the file atomically; only this user can read it."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock; other processes that start or stop this stack wait.

    Raises:
        ServiceError: another process holds the lock for ten minutes.
    """
    with os.fdopen(os.open(home / LOCK_FILE_NAME, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        attempts = Retrying(
            retry=retry_if_exception_type(BlockingIOError),
            wait=wait_fixed(_LOCK_POLL_SECONDS),
            stop=stop_after_delay(_LOCK_SECONDS),
            reraise=True,
        )
        try:
            attempts(fcntl.flock, file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServiceError(
                f"another hsae has been starting or stopping the stack in {home} for ten minutes"
            ) from error
        yield  # closing the file releases the lock
