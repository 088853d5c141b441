"""The private Postgres: the catalog."""

import hashlib
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg
from psycopg import sql

from hsae.embedded import process
from hsae.embedded.binaries import postgres_binary
from hsae.embedded.privileges import give_folder_to, unprivileged
from hsae.embedded.server import Command, NotAnsweringError, Server, base_environment
from hsae.embedded.state import write_private
from hsae.errors import ServiceError

ROLE = DATABASE = "hsae"
_ADMIN = "postgres"
_CONNECT_SECONDS = 5
_NEW = "postgres.new"  # prefix of the folder of an unfinished initdb; a random part follows
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
    "log_destination": "stderr",
}


def _cluster_name(home: Path) -> str:
    """A name in the title of every process of the cluster; at most 63 characters."""
    return f"hsae-{hashlib.sha256(bytes(home)).hexdigest()[:24]}"


class Postgres(Server):
    """A cluster with the database `hsae`, owned by the role `hsae`; access only by password and TCP on loopback."""

    name: ClassVar[str] = "postgres"
    title: ClassVar[str] = "Postgres"
    executable: ClassVar[str] = "postgres"
    port_groups: ClassVar[tuple[tuple[str, ...], ...]] = (("postgres",),)
    # Fast shutdown, then immediate shutdown, which is like a crash.
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]] = (
        (signal.SIGINT, 60.0),
        (signal.SIGQUIT, 10.0),
    )
    start_seconds: ClassVar[float] = 300.0  # crash recovery replays up to max_wal_size
    # Without the answers to our own early connections.
    trouble: ClassVar[re.Pattern[str] | None] = re.compile(
        r"\b(ERROR|FATAL|PANIC):(?!  the database system is starting up)|^initdb: error:"
    )

    @classmethod
    def end_strays(cls, home: Path) -> None:
        """See `Server`; also ends an initdb whose starter was killed."""
        name = _cluster_name(home)
        process.end_strays(home, "initdb", name)
        for folder in (*home.glob(f"{_NEW}*"), home / cls.name):
            process.end_strays(folder, cls.executable, name)

    def prepare(self) -> None:
        """Create the cluster if there is none, and give its files to the user who will run it."""
        identity = unprivileged(postgres_binary("postgres"), self.home)
        if not (self.folder / "PG_VERSION").exists():
            self._init(identity.prefix)
        give_folder_to(self.folder, identity.owner)
        self._drop_foreign_pid_file()

    def command(self) -> Command:
        """Start Postgres; settings are on the command line, so that a new version of hsae can change them."""
        identity = unprivileged(postgres_binary("postgres"), self.home)
        settings = {**_SETTINGS, "port": str(self.port), "cluster_name": _cluster_name(self.home)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return Command((*identity.prefix, postgres_binary("postgres"), "-D", self.folder, *options), {})

    def probe(self) -> None:
        """Connect as the cluster's administrator."""
        try:
            with self._connect(_ADMIN, _ADMIN, self.credentials.postgres_admin_password):
                return
        except psycopg.OperationalError as error:
            # SQLAlchemy comes with it: the stack's commands do without while all is well.
            from hsae.catalog.server.session import driver_reason

            raise NotAnsweringError(driver_reason(error)) from error

    def set_up(self) -> None:
        """Create role and database, and log in like the service."""
        name = sql.Identifier(ROLE)
        password = sql.Literal(self.credentials.postgres_password)
        with self._reported():
            with self._connect(_ADMIN, _ADMIN, self.credentials.postgres_admin_password) as admin:
                found = admin.execute("SELECT rolcreaterole FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
                if found is None:
                    # CREATEROLE is for the read-only role. It only covers roles that hsae created.
                    statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
                    admin.execute(statement.format(name, password))
                elif not found[0]:  # created by an earlier version
                    admin.execute(sql.SQL("ALTER ROLE {} CREATEROLE").format(name))
                if admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                    admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), name))
            with self._connect(DATABASE, ROLE, self.credentials.postgres_password) as connection:
                connection.execute("SELECT 1")

    def _connect(self, database: str, user: str, password: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=user,
            password=password,
            connect_timeout=_CONNECT_SECONDS,
            autocommit=True,
            application_name="hsae stack",
        )

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            reason = str(error).strip().replace("\n", " ")
            raise ServiceError(f"Postgres cannot set up its database: {reason} (log: {self.log})") from error

    def _init(self, prefix: tuple[str, ...]) -> None:
        """Run initdb in a new folder, and rename the folder when it is complete.

        The folder is new each time, because an initdb whose starter was killed may still write into the old one.
        """
        for old in self.home.glob(f"{_NEW}*"):
            shutil.rmtree(old, ignore_errors=True)
        new, passwords = self.home / f"{_NEW}.{secrets.token_hex(4)}", self.home / ".postgres.password"
        write_private(passwords, self.credentials.postgres_admin_password)
        log_start = process.log_size(self.log)
        try:
            with process.open_log(self.log) as log:
                done = subprocess.run(
                    [
                        *prefix,
                        str(postgres_binary("initdb")),
                        f"--pgdata={new}",
                        f"--username={_ADMIN}",
                        f"--pwfile={passwords}",
                        "--auth=scram-sha-256",
                        "--encoding=UTF8",
                        "--locale=C",
                        "--locale-provider=builtin",
                        "--builtin-locale=C.UTF-8",
                        "--no-instructions",
                        f"--set=cluster_name={_cluster_name(self.home)}",
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.home,
                    env=base_environment(self.home),
                    umask=0o077,
                    start_new_session=True,
                    check=False,
                )
            if done.returncode != 0:
                line = process.telling_line(self.log, since=log_start, trouble=self.trouble)
                raise ServiceError(f"Postgres cannot make its data folder: {line} (log: {self.log})")
            new.replace(self.folder)
        finally:
            passwords.unlink(missing_ok=True)
            shutil.rmtree(new, ignore_errors=True)

    def _drop_foreign_pid_file(self) -> None:
        """Remove a postmaster.pid whose pid now belongs to an unrelated program; Postgres would not start.

        A pid without a process is left to Postgres, which also checks whether backends of the dead server remain.
        """
        file = self.folder / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
            other = psutil.Process(pid)
            ours = other.name() == self.executable and process.belongs_to(other, self.folder, _cluster_name(self.home))
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return
        if not ours:
            file.unlink()
