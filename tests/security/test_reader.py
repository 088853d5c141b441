"""The role hsae_reader reads every table and view, and changes nothing."""

import base64
import itertools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy import URL, inspect, make_url

from hsae.catalog import connect, transaction
from hsae.catalog.server import reader_role as reader
from hsae.catalog.server.bulk_copy import load_node_scores
from hsae.catalog.server.migrate import downgrade, upgrade
from hsae.settings import Settings

PASSWORD = "reader's own: p@ss/word%wörd"
_numbers = itertools.count()


def _uri(url: URL) -> str:
    """As libpq wants it: it takes no bare spaces."""
    return url.render_as_string(hide_password=False).replace(" ", "%20")


@pytest.fixture(scope="module")
def readable(make_service):
    """A service whose readers' role may log in, with scores that came after the migration."""
    service = make_service(reader_password=SecretStr(PASSWORD))
    service.environment["HSAE_READER_PASSWORD"] = PASSWORD
    rows = pa.table(
        {
            "analysis_id": [5, 5], "basis": ["sae", "sae"], "seed": [0, 0], "latent": [0, 1], "synset_id": [1, 1],
            "is_node_best": [True, False], "n_images": [4, 4], "n_fire": [2, 2], "n_both": [1, 1], "f1": [0.5, 0.25],
        }
    )  # fmt: skip
    with transaction(service.sessions) as session:
        load_node_scores(session, 5, rows)
    return service


@pytest.fixture
def as_reader(readable):
    """A connection of the readers' role, each statement for itself."""
    url = reader.admit(readable.sessions.kw["bind"], readable.settings)
    with psycopg.connect(_uri(url), autocommit=True) as connection:
        yield connection


def test_every_table_and_view_can_be_read(readable, as_reader):
    inspector = inspect(readable.sessions.kw["bind"])
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    assert {"job", "node_score", "node_score_a5", "node_best_latent", "layer_progress"} <= set(names)
    for name in names:
        as_reader.execute(f'SELECT * FROM "{name}"').fetchall()
    assert as_reader.execute("SELECT sum(f1) FROM node_score").fetchone() == (0.75,)


def test_tables_of_later_migrations_can_be_read(readable, as_reader):
    with readable.sessions.kw["bind"].begin() as connection:
        connection.exec_driver_sql("CREATE TABLE later (x int); CREATE VIEW later_view AS SELECT x FROM later")
    assert as_reader.execute("SELECT * FROM later UNION ALL SELECT * FROM later_view").fetchall() == []


@pytest.mark.parametrize("read_only", [True, False], ids=["as it logs in", "after lifting its own limits"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO study (name, request) VALUES ('x', '{}')",
        "UPDATE job SET state = 'queued'",
        "DELETE FROM node_score",
        "DELETE FROM node_score_a5",
        "TRUNCATE node_score_a5",
        "SELECT * FROM job FOR UPDATE",
        "BEGIN; LOCK TABLE job IN EXCLUSIVE MODE",
        "SELECT nextval('job_id_seq')",
        "CREATE TABLE mine (x int)",
        "CREATE TEMP TABLE mine (x int)",
        "CREATE VIEW mine AS SELECT 1",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "DROP TABLE study",
        "DROP VIEW latent_label",
        "ALTER TABLE job ADD COLUMN mine int",
        "ALTER ROLE hsae_reader SUPERUSER",
        "SET ROLE hsae",
        "COPY study FROM PROGRAM 'id'",
        "COPY study TO '/tmp/mine'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT * FROM pg_authid",
        "SELECT * FROM pg_shadow",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hsae'",
        "SELECT pg_reload_conf()",
    ],
)
def test_it_does_nothing_else(readable, as_reader, statement, read_only):
    if not read_only:
        as_reader.execute("SET default_transaction_read_only = off")
    with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)) as refused:
        as_reader.execute(statement)
    as_reader.rollback()
    if not read_only:
        assert isinstance(refused.value, psycopg.errors.InsufficientPrivilege)


def test_its_sessions_are_limited(as_reader):
    shown = {
        name: as_reader.execute(f"SHOW {name}").fetchone()[0]
        for name in ("default_transaction_read_only", "statement_timeout", "idle_in_transaction_session_timeout")
    }
    assert shown == {
        "default_transaction_read_only": "on",
        "statement_timeout": "1min",
        "idle_in_transaction_session_timeout": "1min",
    }
    assert as_reader.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user").fetchone() == (20,)


def test_command_prints_the_url_without_the_password_and_queries_run_with_it(readable, admin):
    assert "Read-only role: hsae_reader may" in admin(readable, "db", "upgrade").output
    done = admin(readable, "db", "reader")
    assert done.exit_code == 0, done.output
    assert "postgresql://hsae_reader@127.0.0.1:" in done.output
    assert PASSWORD not in done.output
    url = admin(readable, "db", "reader", "--show-url").output.strip()
    assert make_url(url).password == PASSWORD
    assert "hsae_reader may log in." in admin(readable, "db", "upgrade").output

    as_reader = {"HSAE_DATABASE_URL": url}
    rows = json.loads(
        admin(readable, "db", "query", "SELECT max(f1) AS f1 FROM node_score", "--json", **as_reader).output
    )
    assert rows == [{"f1": 0.5}]
    refused = admin(readable, "db", "query", "DELETE FROM node_score", **as_reader)
    assert refused.exit_code == 1
    assert "Postgres refused the query" in refused.stderr
    for command in (("jobs", "list"), ("dataset", "list"), ("db", "current")):
        shown = admin(readable, *command, **as_reader)
        assert shown.exit_code == 0, (command, shown.output)


def test_password_can_be_changed(readable):
    engine = readable.sessions.kw["bind"]
    reader.admit(engine, readable.settings)
    changed = readable.settings.model_copy(update={"reader_password": SecretStr("another")})
    reader.admit(engine, changed)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(_uri(reader.reader_url(readable.settings)))


def test_no_password_is_one_clear_line(readable, admin):
    failed = admin(readable, "db", "reader", HSAE_READER_PASSWORD="")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert "HSAE_READER_PASSWORD" in failed.stderr


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


def test_downgrade_takes_back_this_databases_grants_only(own_stack):
    _drop_reader(own_stack)
    one, other = _database(own_stack), _database(own_stack)
    engines = [connect(one), connect(other)]
    for engine in engines:
        upgrade(engine)
    reader.admit(engines[0], one)
    downgrade(engines[0], "0003")
    with (
        psycopg.connect(_uri(reader.reader_url(one))) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("SELECT * FROM job")
    with engines[0].begin() as connection:
        left = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE r.rolname = 'hsae_reader'"
            " AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ).scalar_one()
    assert left == 0
    with psycopg.connect(_uri(reader.reader_url(other))) as connection:
        connection.execute("SELECT * FROM job")
    upgrade(engines[0])
    with psycopg.connect(_uri(reader.reader_url(one))) as connection:
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
        assert waiting.result(timeout=30)
    for engine in engines:
        assert "may not log in yet" in reader.status(engine)
        engine.dispose()
