"""Connections to Postgres; errors of the server, and a missing migration, become one clear line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import URL, Dialect, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session, sessionmaker
from tenacity import RetryCallState, Retrying, stop_after_delay, wait_random_exponential

from hsae.errors import ServiceError, UserError
from hsae.server_urls import encoding_hint
from hsae.settings import SILENCE_SECONDS, Settings

_UNDEFINED_TABLE_OR_COLUMN = {"42P01", "42703"}
_DISK_FULL = "53100"
_NO_CONNECTION_LEFT = ("too many clients", "remaining connection slots are reserved", "too many connections for")
_NO_CONNECTION_LEFT_SECONDS = 120.0
# Drawn anew each time, so that those who wait do not come all at once, and longer each time: every refusal costs the
# server a process.
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
CONNECT_SECONDS = 10
# A network that swallows packets must be noticed before a lease is over (`settings.DEFAULT_LEASE_SECONDS`), not after
# TCP's quarter of an hour: after the silence where something was sent, on an idle connection some seconds later.
_KEEPALIVE_IDLE_SECONDS = 10
_N_KEEPALIVES = 3
_CONNECTION = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": _KEEPALIVE_IDLE_SECONDS,
    "keepalives_interval": SILENCE_SECONDS // _N_KEEPALIVES,
    "keepalives_count": _N_KEEPALIVES,
    "tcp_user_timeout": 1000 * SILENCE_SECONDS,
}
# A process that was suspended in a transaction would keep its locks, and others waiting, until somebody wakes it.
_MAX_IDLE_SECONDS = 300
_DEADLOCK = "40P01"
_REMEDY = "remedy: "  # begins the note on a failed connection that says what to do: only its engine knows the settings
_IdledTooLong = psycopg.errors.IdleInTransactionSessionTimeout
_NOT_ALLOWED = {"42501", "25006"}  # insufficient privilege, read-only server


def database_url(settings: Settings) -> URL:
    """The database's URL for psycopg 3.

    Raises:
        UserError: none is set, or it is no Postgres URL.
    """
    if settings.database_url is None:
        raise UserError(
            "no database is set: start a private stack with `hsae-admin up`, or set HSAE_DATABASE_URL"
            " (postgresql://user:password@host:port/database)"
        )
    given = settings.database_url.get_secret_value()
    no_url = f"HSAE_DATABASE_URL is no URL: write postgresql://user:password@host:port/database{encoding_hint(given)}"
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        raise UserError(no_url) from error
    if "@" in (url.host or "") or ("@" in (url.database or "") and "%40" not in given):
        raise UserError(no_url)  # parsed, but cut at a character of the password
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise UserError(
            f"HSAE_DATABASE_URL names {url.get_backend_name()}; hsae needs Postgres: write postgresql://..."
        )
    return url.set(drivername="postgresql+psycopg")


def connect(settings: Settings) -> Engine:
    """An engine for the configured database; it opens no connection yet.

    While all connections of the server are in use, a new one waits.
    """
    engine = create_engine(database_url(settings), pool_pre_ping=True, pool_size=4, connect_args=_CONNECTION)

    def opened(dialect: Dialect, _: object, args: tuple[Any, ...], options: dict[str, Any]) -> DBAPIConnection:
        try:
            return _wait_for_connection(dialect, args, options)
        except psycopg.OperationalError as error:
            error.add_note(f"{_REMEDY}{settings.remedy_if_away('database_url')}")
            raise

    event.listen(engine, "do_connect", opened)
    event.listen(engine, "connect", _end_idle_transactions)
    return engine


def _wait_for_connection(dialect: Dialect, args: tuple[Any, ...], options: dict[str, Any]) -> DBAPIConnection:
    attempts = Retrying(
        retry=_is_crowded,
        wait=wait_random_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS),
        stop=stop_after_delay(_NO_CONNECTION_LEFT_SECONDS),
        reraise=True,
    )
    try:
        connection: DBAPIConnection = attempts(dialect.connect, *args, **options)
    except psycopg.OperationalError as error:
        if options.get("host"):
            error.add_note(f"{options['host']}:{options.get('port') or 5432}")
        raise
    return connection


def _is_crowded(attempt: RetryCallState) -> bool:
    """Whether to wait for others to leave: no connection is left, or none was and the server is now too busy to answer.

    A server that never answered is away, not crowded.
    """
    error = attempt.outcome.exception() if attempt.outcome is not None else None
    if isinstance(error, psycopg.errors.ConnectionTimeout):
        return attempt.attempt_number > 1
    # Without a connection the driver knows no SQLSTATE.
    return isinstance(error, psycopg.OperationalError) and any(words in str(error) for words in _NO_CONNECTION_LEFT)


def _end_idle_transactions(connection: DBAPIConnection, _: object) -> None:
    """Let the server end transactions that this process leaves idle for long."""
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = '{_MAX_IDLE_SECONDS}s'")
    cursor.close()
    connection.commit()


def bound_idling(session: Session, seconds: float) -> None:
    """Let the server end this transaction once it is idle for so long: one second to five minutes."""
    milliseconds = round(1000 * min(max(seconds, 1.0), _MAX_IDLE_SECONDS))
    setting = text("SELECT set_config('idle_in_transaction_session_timeout', :value, true)")
    session.execute(setting, {"value": f"{milliseconds}ms"})


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """A factory of sessions on `engine` whose objects stay readable after a commit."""
    return sessionmaker(engine, expire_on_commit=False)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the driver's errors into a `ServiceError` or `UserError` that says what to do."""
    try:
        yield
    except ProgrammingError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _UNDEFINED_TABLE_OR_COLUMN:
            raise UserError("the database is not migrated to this version: run `hsae-admin db upgrade`") from error
        if state in _NOT_ALLOWED or state is None:
            raise _refused(error) from error
        raise
    except (OperationalError, psycopg.OperationalError, _IdledTooLong) as error:  # the driver's own come from a COPY
        cause = error.orig if isinstance(error, OperationalError) else error
        state = getattr(cause, "sqlstate", None)
        reason = driver_reason(cause)
        if state == _DEADLOCK:
            raise ServiceError("two changes of the database got in each other's way: try again") from error
        if state == _DISK_FULL:
            raise ServiceError(
                f"the database's disk is full ({reason}): free some space; jobs go on by themselves"
            ) from error
        if "authentication failed" in str(cause):
            raise ServiceError(f"the database refused the credentials ({reason}): correct HSAE_DATABASE_URL") from error
        raise ServiceError(f"the database cannot be used ({reason}): {_remedy(cause)}") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise ServiceError("the connection to the database was lost: try again") from error
        if getattr(error.orig, "sqlstate", None) in _NOT_ALLOWED:
            raise _refused(error) from error
        raise


def _refused(error: DBAPIError) -> UserError:
    return UserError(f"the database refuses this ({driver_reason(error.orig)}): correct HSAE_DATABASE_URL")


def driver_reason(error: BaseException | None) -> str:
    """The server's own message, or the driver's, which names the address; in one line."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    if primary:
        return str(primary)
    # Lines that begin with a tab are guesses ("Is the server running on that host ...?") which hide what was found.
    lines = [line.strip() for line in str(error).splitlines() if not line.startswith("\t")]
    reason = " ".join(filter(None, lines)) or "no reason given"
    notes = [note for note in getattr(error, "__notes__", []) if not note.startswith(_REMEDY)]
    where = [note for note in notes if note.partition(":")[0] not in reason]
    return f"{reason.removeprefix('connection failed: ')}{f', connecting to {where[0]}' if where else ''}"


def _remedy(error: BaseException | None) -> str:
    """What the engine that could not connect noted (see `connect`)."""
    noted = [note.removeprefix(_REMEDY) for note in getattr(error, "__notes__", []) if note.startswith(_REMEDY)]
    return noted[0] if noted else "start it or correct HSAE_DATABASE_URL"


@contextmanager
def transaction(sessions: sessionmaker[Session]) -> Iterator[Session]:
    """A session in one transaction: committed at the end, rolled back on an exception; errors become clear lines."""
    with clear_errors(), sessions.begin() as session:
        yield session
