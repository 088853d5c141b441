"""Migrations make the role hsae_reader, which all databases of a server share."""

import base64
import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from tests.security.reader_login import PASSWORD, uri

from hsae.catalog import connect
from hsae.catalog.server import reader_role as reader
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.settings import Settings

_numbers = itertools.count()


def _database(own_stack, owner: str = "hsae") -> Settings:
    """An empty database on the module's own server, as one of its roles sees it."""
    name = f"case:{next(_numbers)}%\"'"  # names need quoting
    own_stack.as_administrator(psycopg.sql.SQL("CREATE DATABASE {} OWNER {}").format(
        psycopg.sql.Identifier(name), psycopg.sql.Identifier(owner)
    ))  # fmt: skip
    url = make_url(own_stack.info.database_url).set(database=name)
    if owner != "hsae":
        url = url.set(username=owner, password=owner)
    shown = url.render_as_string(hide_password=False)
    return Settings(database_url=SecretStr(shown), reader_password=SecretStr(PASSWORD))


def _drop_reader(own_stack) -> None:
    own_stack.as_administrator(
        "DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'hsae_reader') THEN"
        " DROP OWNED BY hsae_reader; END IF; END $$"
    )
    with psycopg.connect(own_stack.administrator, autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'case%'").fetchall():
            connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))
        connection.execute("DROP ROLE IF EXISTS hsae_reader")


@pytest.mark.slow
def test_several_databases_migrate_at_once(own_stack):
    _drop_reader(own_stack)
    databases = [_database(own_stack) for _ in range(4)]
    migrations = [
        subprocess.Popen(
            [sys.executable, "-c", "from hsae.cli.main import main; main()", "db", "upgrade"],
            env={**os.environ, "HSAE_DATABASE_URL": settings.database_url.get_secret_value()},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for settings in databases
    ]
    for migration in migrations:
        output, _ = migration.communicate(timeout=120)
        assert migration.returncode == 0, output
        assert "Read-only role: hsae_reader may not log in yet" in output
    for settings in databases:
        with connect(settings).begin() as connection:
            mask = connection.exec_driver_sql("SELECT has_table_privilege('hsae_reader', 'node_score', 'SELECT')")
            assert mask.scalar_one()
            connection.engine.dispose()


@pytest.mark.slow
def test_downgrade_takes_back_this_databases_grants_only(own_stack):
    _drop_reader(own_stack)
    one, other = _database(own_stack), _database(own_stack)
    engines = [connect(one), connect(other)]
    for engine in engines:
        upgrade(engine)
    reader.admit(engines[0], one)
    downgrade(engines[0], "0003")
    with (
        psycopg.connect(uri(reader.reader_url(one))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM job")
    with engines[0].begin() as connection:
        left = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE r.rolname = 'hsae_reader'"
            " AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).scalar_one()
    assert left == 0
    with psycopg.connect(uri(reader.reader_url(other))) as connection:
        connection.execute("SELECT * FROM job")
    upgrade(engines[0])
    with psycopg.connect(uri(reader.reader_url(one))) as connection:
        connection.execute("SELECT * FROM job")
    for engine in engines:
        engine.dispose()


def test_a_user_who_may_not_create_roles_migrates_and_is_told_what_to_do(own_stack, admin):
    _drop_reader(own_stack)
    own_stack.as_administrator("CREATE ROLE plain LOGIN PASSWORD 'plain'")
    settings = _database(own_stack, "plain")
    environment = {
        "HSAE_DATABASE_URL": settings.database_url.get_secret_value(),
        "HSAE_READER_PASSWORD": PASSWORD,
    }
    migrated = admin(None, "db", "upgrade", **environment)
    assert migrated.exit_code == 0, migrated.output
    assert "hsae_reader is missing (`hsae-admin db reader`" in migrated.output
    failed = admin(None, "db", "reader", **environment)
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    told = failed.stderr.split("`")[1]
    assert told.startswith("CREATE ROLE hsae_reader NOLOGIN")

    own_stack.as_administrator(told)
    failed = admin(None, "db", "reader", **environment)  # it grants now; the password is the administrator's to give
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert "ALTER ROLE hsae_reader LOGIN" in failed.stderr
    own_stack.as_administrator(psycopg.sql.SQL("ALTER ROLE hsae_reader LOGIN PASSWORD {}").format(PASSWORD))
    done = admin(None, "db", "reader", "--show-url", **environment)
    assert done.exit_code == 0, done.output
    with psycopg.connect(done.output.strip()) as connection:
        assert connection.execute("SELECT * FROM job").fetchall() == []


def test_a_reader_with_powers_is_refused(own_stack, admin):
    _drop_reader(own_stack)
    settings = _database(own_stack)
    own_stack.as_administrator("CREATE ROLE hsae_reader SUPERUSER")
    with connect(settings).connect() as connection:
        upgrade(connection.engine)
    failed = admin(
        None, "db", "reader",
        HSAE_DATABASE_URL=settings.database_url.get_secret_value(), HSAE_READER_PASSWORD=PASSWORD,
    )  # fmt: skip
    assert failed.exit_code == 1
    assert "NOSUPERUSER" in failed.stderr


def test_the_servers_log_of_every_statement_has_no_password(own_stack):
    _drop_reader(own_stack)
    own_stack.as_administrator("ALTER ROLE hsae SET log_statement = 'all'")
    settings = _database(own_stack)
    engine = connect(settings)
    upgrade(engine)
    reader.admit(engine, settings)
    logged = own_stack.log.read_text()
    assert "ALTER ROLE" in logged
    assert "SCRAM-SHA-256$" in logged
    for secret in (PASSWORD, base64.b64encode(PASSWORD.encode()).decode()):
        assert secret not in logged
    engine.dispose()


@pytest.mark.slow
def test_a_migration_waits_for_the_one_that_makes_the_role(own_stack):
    _drop_reader(own_stack)
    engines = [connect(_database(own_stack)) for _ in range(2)]
    with ThreadPoolExecutor(1) as pool:
        with engines[0].begin() as first:
            assert reader.prepare(first)

            def prepare_second() -> bool:
                with engines[1].begin() as second:
                    return reader.prepare(second)

            waiting = pool.submit(prepare_second)  # it sees no role, makes one, and waits for the first one's commit
            with psycopg.connect(own_stack.administrator, autocommit=True) as administrator:
                while not administrator.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
                    assert not waiting.done()
        assert waiting.result(timeout=240)
    for engine in engines:
        assert "may not log in yet" in reader.status(engine)
        engine.dispose()
