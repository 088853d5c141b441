"""The role hsae_reader reads every table and view, and changes nothing."""

import json

import psycopg
import pyarrow as pa
import pytest
from pydantic import SecretStr
from sqlalchemy import inspect, make_url
from tests.security.reader_login import PASSWORD, uri

from hsae.catalog import transaction
from hsae.catalog.server import reader_role as reader
from hsae.catalog.server.bulk_copy import load_node_scores


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
    with psycopg.connect(uri(url), autocommit=True) as connection:
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
        psycopg.connect(uri(reader.reader_url(readable.settings)))


def test_no_password_is_one_clear_line(readable, admin):
    failed = admin(readable, "db", "reader", HSAE_READER_PASSWORD="")
    assert failed.exit_code == 1
    assert failed.stderr.count("\n") == 1
    assert "HSAE_READER_PASSWORD" in failed.stderr
