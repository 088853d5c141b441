"""Connections that can only read: as the role `hsae_reader`, or in read-only transactions."""

from pydantic import SecretStr
from sqlalchemy import Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from hsae.catalog.server.reader_role import READER, reader_url
from hsae.catalog.server.session import connect, driver_reason
from hsae.errors import UserError
from hsae.settings import Settings

_REFUSED = {"28P01", "28000", "42501"}  # wrong password, may not log in, may not connect


def connect_reading(settings: Settings, *, statement_seconds: int) -> Engine:
    """An engine whose transactions are read-only, and whose queries end after `statement_seconds`.

    It logs in as `hsae_reader` where the settings have that role's password; else as the user of the settings.

    Raises:
        UserError: the role has a password in the settings and may not log in.
    """
    is_reader = settings.reader_password is not None
    if is_reader:
        url = SecretStr(reader_url(settings).render_as_string(hide_password=False))
        settings = settings.model_copy(update={"database_url": url})
    engine = connect(settings).execution_options(postgresql_readonly=True)

    def bound(connection: DBAPIConnection, _: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET statement_timeout = '{statement_seconds}s'")
        cursor.close()
        connection.commit()

    event.listen(engine, "connect", bound)
    if is_reader:
        _check_login(engine)
    return engine


def _check_login(engine: Engine) -> None:
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        words = str(error.orig)
        if state in _REFUSED or "authentication failed" in words or "not permitted to log in" in words:
            raise UserError(
                f"{READER} cannot log in with HSAE_READER_PASSWORD ({driver_reason(error.orig)}): run"
                " `hsae-admin db reader`, which sets its password, or unset the variable to read as the database's user"
            ) from error
        # Anything else is said by the first query, like for every other command.
