"""The role `hsae_reader`: it may read every table and view of hsae's schema, and nothing else.

Roles belong to the whole server, rights to one database: several databases share the role, and each grants its own
tables. The role's settings protect against accidents (a reader may change them in its session); only its rights decide
what it cannot do.
"""

from collections.abc import Sequence

import psycopg
from psycopg import sql
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError

from hsae.catalog.server.session import CONNECT_SECONDS, clear_errors, database_url, driver_reason
from hsae.errors import ServiceError, UserError
from hsae.settings import Settings

READER = "hsae_reader"
# The limits: dashboards cannot take every connection, and a forgotten transaction cannot hold up migrations and `gc`.
CREATE_READER = (
    f"CREATE ROLE {READER} NOLOGIN CONNECTION LIMIT 20",
    f"ALTER ROLE {READER} SET default_transaction_read_only = on",
    f"ALTER ROLE {READER} SET statement_timeout = '60s'",
    f"ALTER ROLE {READER} SET idle_in_transaction_session_timeout = '60s'",
)
_EXISTS_ALREADY = {"42710", "23505"}  # the latter: another database's migration made it at the same moment
_NOT_ALLOWED = "42501"
_OWN_RELATIONS = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm')
"""


def prepare(connection: Connection) -> bool:
    """Make the role unless it exists, and let it read; False if it is missing and this user may not make it.

    Runs in the connection's transaction; any number of databases of one server may do so at once.
    """
    if not _exists(connection) and not _create(connection):
        fix = f"{READER} is missing and this user may not create roles, run hsae-admin db reader for what to do"
        _run(connection, f"DO $$ BEGIN RAISE NOTICE '{fix}'; END $$")
        return False
    _grant(connection)
    return True


def withdraw(connection: Connection) -> None:
    """Revoke what this database granted; the role stays, because other databases may use it."""
    if not _exists(connection):
        return
    database, schema = _place(connection)
    _run(connection, f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} REVOKE SELECT ON TABLES FROM {READER}")  # noqa: S608
    for relation in _relations(connection):
        _run(connection, f"REVOKE ALL ON {relation} FROM {READER}")
    _run(connection, f"REVOKE ALL ON SCHEMA {schema} FROM {READER}")
    # What PUBLIC lost stays lost: whether it had it before is not known.
    _run(connection, f"REVOKE ALL ON DATABASE {database} FROM {READER}")


def status(engine: Engine) -> str:
    """The state of the role in this database, in a few words with what to do, for people."""
    with clear_errors(), engine.connect() as connection:
        may_login = connection.execute(
            text("SELECT rolcanlogin FROM pg_roles WHERE rolname = :role"), {"role": READER}
        ).scalar_one_or_none()
        if may_login is None:
            return f"{READER} is missing (`hsae-admin db reader` makes it, or says who must)"
        unreadable = _unreadable(connection)
    if unreadable:
        return f"{READER} cannot read {', '.join(unreadable[:3])} (`hsae-admin db reader` fixes it)"
    if not may_login:
        return f"{READER} may not log in yet (`hsae-admin db reader` lets it)"
    return f"{READER} may log in"


def admit(engine: Engine, settings: Settings) -> URL:
    """Let the role log in with the password of the settings; returns its URL, including the password.

    Only a SCRAM hash of the password is sent to the server.

    Raises:
        UserError: no password is set, the role has more rights than it should, or this user may not do it.
        ServiceError: the server cannot be reached or refuses the role's login.
    """
    url = reader_url(settings)
    if not url.password:
        raise UserError(
            "no password is set for the read-only role: set HSAE_READER_PASSWORD (in the environment or .env), for"
            " example to the output of `openssl rand -hex 24`, and run `hsae-admin db reader` again"
        )
    with clear_errors(), engine.begin() as connection:
        user = connection.execute(text("SELECT current_user")).scalar_one()
        if not prepare(connection):
            raise UserError(
                f"the database's user {user} may not create roles: have an administrator run"
                f" `{'; '.join(CREATE_READER)};`, then run `hsae-admin db reader` again"
            )
        _refuse_powers(connection)
    with clear_errors(), engine.begin() as connection:
        changed = _set_password(connection, str(url.password))
    refusal = _login_refusal(url)
    if refusal is None:
        return url
    if changed:
        raise ServiceError(
            f"{READER} has its password, but the server does not let it in ({refusal}): allow it in pg_hba.conf"
        )
    raise UserError(
        f"the database's user {user} may not change the role {READER}, which another user made: have an"
        f" administrator run `ALTER ROLE {READER} LOGIN` and, in psql, `\\password {READER}`"
    )


def reader_url(settings: Settings) -> URL:
    """The database's URL for the role; without a password if none is set."""
    url = database_url(settings)
    password = settings.reader_password.get_secret_value() if settings.reader_password else None
    return URL.create("postgresql", READER, password, url.host, url.port, url.database, url.query)


def excess_rights(engine: Engine) -> list[str]:
    """What the role may do in this database beyond reading, because everybody may."""
    with clear_errors(), engine.connect() as connection:
        row = connection.execute(
            text(
                "SELECT has_database_privilege(:role, current_database(), 'TEMPORARY') AS temporary,"
                " has_schema_privilege(:role, current_schema(), 'CREATE') AS create"
            ),
            {"role": READER},
        ).one()
        database, schema = _place(connection)
    fixes = (
        (row.temporary, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"),
        (row.create, f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"),
    )
    return [fix for excess, fix in fixes if excess]


def _run(connection: Connection, statement: str) -> None:
    """Execute a statement as it is: quoted names may contain characters that the driver reads as parameters."""
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _exists(connection: Connection) -> bool:
    found = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": READER})
    return found.scalar_one_or_none() is not None


def _create(connection: Connection) -> bool:
    try:
        with connection.begin_nested():
            for statement in CREATE_READER:
                _run(connection, statement)
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _EXISTS_ALREADY:
            return True
        if state == _NOT_ALLOWED:
            return False
        raise
    return True


def _grant(connection: Connection) -> None:
    database, schema = _place(connection)
    # Everybody may make temporary tables in a new database, and before Postgres 15 any table in `public`.
    _run(connection, f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    _run(connection, f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC")
    _run(connection, f"GRANT CONNECT ON DATABASE {database} TO {READER}")
    _run(connection, f"GRANT USAGE ON SCHEMA {schema} TO {READER}")
    for relation in _relations(connection):
        _run(connection, f"GRANT SELECT ON {relation} TO {READER}")
    _run(connection, f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {READER}")


def _place(connection: Connection) -> tuple[str, str]:
    """Database and schema, quoted."""
    row = connection.execute(text("SELECT quote_ident(current_database()), quote_ident(current_schema())")).one()
    return row[0], row[1]


def _relations(connection: Connection) -> Sequence[str]:
    """Tables and views of hsae's schema that this user may grant, without those of extensions."""
    return connection.scalars(text(_OWN_RELATIONS + " AND pg_has_role(c.relowner, 'USAGE') ORDER BY 1")).all()


def _unreadable(connection: Connection) -> Sequence[str]:
    """Tables and views that the role cannot read. Partitions are read through their parent."""
    query = _OWN_RELATIONS + " AND NOT c.relispartition AND pg_has_role(c.relowner, 'USAGE')"
    query += " AND NOT has_table_privilege(:role, c.oid, 'SELECT') ORDER BY 1"
    return connection.scalars(text(query), {"role": READER}).all()


def _refuse_powers(connection: Connection) -> None:
    powers = connection.execute(
        text(
            "SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
            " FROM pg_roles WHERE rolname = :role"
        ),
        {"role": READER},
    ).scalar_one()
    if powers:
        raise UserError(
            f"the role {READER} may do more than read: have an administrator run `ALTER ROLE {READER} NOSUPERUSER"
            " NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS`"
        )


def _set_password(connection: Connection, password: str) -> bool:
    """Set the role's password; False if this user may not, because another one made the role."""
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 -- narrows the type
    hashed = driver.pgconn.encrypt_password(password.encode(), READER.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(READER), hashed)
    try:
        with connection.begin_nested():
            driver.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def _login_refusal(url: URL) -> str | None:
    """Why the server refuses the role's login; None if it does not."""
    engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": CONNECT_SECONDS})
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT count(*) FROM job"))
    except DBAPIError as error:
        return driver_reason(error.orig)
    finally:
        engine.dispose()
    return None
