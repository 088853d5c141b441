"""What Postgres refuses is told in one line that says what to do."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text
from sqlalchemy.engine import Dialect

from hsae.catalog import connect, database_url, session_factory, transaction
from hsae.catalog.server import session as connecting
from hsae.errors import ServiceError, UserError
from hsae.settings import Settings


def _settings(url: str | None, tmp_path) -> Settings:
    return Settings(home=tmp_path, database_url=None if url is None else SecretStr(url))


def test_no_database_is_set(tmp_path):
    with pytest.raises(UserError, match="hsae-admin up"):
        database_url(_settings(None, tmp_path))


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:p@h/d"])
def test_another_url_is_refused(url, tmp_path):
    with pytest.raises(UserError, match="postgresql://"):
        database_url(_settings(url, tmp_path))


def test_server_down(tmp_path):
    sessions = session_factory(connect(_settings("postgresql://u:p@127.0.0.1:1/d", tmp_path)))
    with pytest.raises(ServiceError, match="cannot be used.*HSAE_DATABASE_URL"), transaction(sessions) as session:
        session.execute(text("SELECT 1"))


def test_a_server_that_is_away_is_named(tmp_path):
    for url, words in (
        ("postgresql://u:p@127.0.0.1:1/d", ['"127.0.0.1", port 1', "Connection refused"]),
        ("postgresql://u:p@localhost:1/d", ["port 1", "localhost:1"]),
        ("postgresql://u:p@/d?host=/no/such/folder", ["/no/such/folder", "5432"]),
    ):
        sessions = session_factory(connect(_settings(url, tmp_path)))
        with pytest.raises(ServiceError) as caught, transaction(sessions) as session:
            session.execute(text("SELECT 1"))
        assert all(word in str(caught.value) for word in words), str(caught.value)
        assert not {"\n", "\t", "?"} & set(str(caught.value))


@pytest.mark.parametrize("url", ["postgresql://u:p@zz@h/d", "postgresql://u/zz:p@h:1/d", "postgresql://u:p@z/zz@h:1/d"])
def test_a_password_that_cuts_the_url_is_told_how_to_be_written(url, tmp_path):
    with pytest.raises(UserError, match="@ as %40") as caught:
        database_url(_settings(url, tmp_path))
    assert "zz" not in str(caught.value)
    assert database_url(_settings("postgresql://u:p%40%2Fss@h/d%40b", tmp_path)).password == "p@/ss"
    for harmless in ("postgresql://u:p#/?:s@h:1/d", "postgresql://h/d"):
        assert database_url(_settings(harmless, tmp_path)).host == "h"


def test_wrong_password(stack, tmp_path):
    wrong = make_url(stack.database_url).set(password="wrong").render_as_string(hide_password=False)
    sessions = session_factory(connect(_settings(wrong, tmp_path)))
    with pytest.raises(ServiceError, match="refused the credentials") as caught, transaction(sessions) as session:
        session.execute(text("SELECT 1"))
    assert "\n" not in str(caught.value)


def test_a_dead_connection_is_noticed_before_a_lease_is_over(stack, tmp_path):
    engine = connect(_settings(stack.database_url, tmp_path))
    with engine.connect() as connection:
        found = {name: int(connection.connection.driver_connection.info.get_parameters()[name]) for name in (
            "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "connect_timeout"
        )}  # fmt: skip
    engine.dispose()
    lease_seconds = Settings.model_fields["lease_seconds"].default
    assert found["connect_timeout"] < lease_seconds
    assert found["tcp_user_timeout"] == 15_000 < 1000 * lease_seconds
    assert found["keepalives_idle"] + found["keepalives_count"] * found["keepalives_interval"] == 25 < lease_seconds


def test_not_migrated(make_service):
    service = make_service(migrate=False)
    with pytest.raises(UserError, match="db upgrade"), transaction(service.sessions) as session:
        session.execute(text("SELECT * FROM job"))


_CROWDED = psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already")
_TOO_BUSY = psycopg.errors.ConnectionTimeout("connection timeout expired")
_AWAY = psycopg.OperationalError("connection failed: Connection refused")


def _connect_by(driver: Callable[..., str], **options: str) -> object:
    return connecting._wait_for_connection(cast("Dialect", SimpleNamespace(connect=driver)), (), options)


@pytest.mark.parametrize(
    ("answers", "n_attempts", "raised"),
    [
        (["connected"], 1, None),
        ([_CROWDED, "connected"], 2, None),
        ([_CROWDED, _TOO_BUSY, _TOO_BUSY, _CROWDED, "connected"], 5, None),
        ([_TOO_BUSY, "connected"], 1, _TOO_BUSY),
        ([_CROWDED, _AWAY, "connected"], 2, _AWAY),
    ],
    ids=["at once", "crowded", "crowded and too busy to answer", "never answered", "went away"],
)
def test_only_a_crowded_server_is_waited_for(monkeypatch, answers, n_attempts, raised):
    for pause in ("_FIRST_PAUSE_SECONDS", "_LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(connecting, pause, 0.0)
    asked = []

    def answer(**options):
        asked.append(options)
        given = answers[len(asked) - 1]
        if isinstance(given, Exception):
            raise given
        return given

    if raised is None:
        assert _connect_by(answer, host="h") == "connected"
    else:
        with pytest.raises(psycopg.OperationalError) as refused:
            _connect_by(answer, host="h")
        assert refused.value is raised
        assert "h:5432" in refused.value.__notes__
    assert asked == [{"host": "h"}] * n_attempts


def test_a_server_that_stays_crowded_is_given_up(monkeypatch):
    monkeypatch.setattr(connecting, "_NO_CONNECTION_LEFT_SECONDS", 0.0)

    def refuse():
        raise psycopg.OperationalError("remaining connection slots are reserved for roles")

    with pytest.raises(psycopg.OperationalError, match="remaining connection slots"):
        _connect_by(refuse)
