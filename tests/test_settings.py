"""Where settings come from, and what a wrong one says."""

import json

import pytest
from sqlalchemy import text

from hsae.catalog import connect, session_factory, transaction
from hsae.errors import ServiceError, UserError
from hsae.pipeline.queue.notifier import Notifier
from hsae.settings import load_settings
from hsae.store.objects import ObjectStore

_SERVERS = {  # port 1: nothing listens there
    "database_url": "postgresql://u:p@127.0.0.1:1/d",
    "broker_url": "redis://:p@127.0.0.1:1/0",
    "s3_endpoint": "127.0.0.1:1",
}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HSAE_MODEL", raising=False)
    monkeypatch.delenv("HSAE_S3_BUCKET", raising=False)


def test_order_of_precedence(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "stack.json").write_text(json.dumps({"s3_bucket": "from-stack", "model": "stack/model"}))
    assert load_settings(home).s3_bucket == "from-stack"
    (tmp_path / ".env").write_text("HSAE_S3_BUCKET=from-dotenv\n")
    assert load_settings(home).s3_bucket == "from-dotenv"
    monkeypatch.setenv("HSAE_S3_BUCKET", "from-environment")
    assert load_settings(home).s3_bucket == "from-environment"
    assert load_settings(home).model == "stack/model"


def test_home_of_the_environment_names_the_stack_file(tmp_path, monkeypatch):
    home = tmp_path / "elsewhere"
    home.mkdir()
    (home / "stack.json").write_text(json.dumps({"s3_bucket": "elsewhere"}))
    monkeypatch.setenv("HSAE_HOME", str(home))
    assert load_settings().s3_bucket == "elsewhere"


@pytest.mark.parametrize("default", [True, False])
def test_a_server_of_the_private_stack_that_is_away_is_started_by_up(tmp_path, monkeypatch, default):
    home = tmp_path / "the home"
    home.mkdir()
    for name in _SERVERS:
        monkeypatch.delenv(f"HSAE_{name.upper()}", raising=False)
    (home / "stack.json").write_text(json.dumps(_SERVERS | {"s3_access_key": "a", "s3_secret_key": "s"}))
    if default:
        monkeypatch.setenv("HSAE_HOME", str(home))
    else:
        monkeypatch.delenv("HSAE_HOME", raising=False)
    found = _remedies(load_settings(None if default else home))
    up = "hsae-admin up" if default else f"hsae-admin --home '{home}' up"
    assert found == [f"start it with `{up}`"] * 3


def test_another_server_that_is_away_has_its_variable_named(tmp_path, monkeypatch):
    (tmp_path / "stack.json").write_text(json.dumps(dict.fromkeys(_SERVERS, "another")))
    for name, value in (_SERVERS | {"s3_access_key": "a", "s3_secret_key": "s"}).items():
        monkeypatch.setenv(f"HSAE_{name.upper()}", value)
    variables = ("HSAE_DATABASE_URL", "HSAE_BROKER_URL", "HSAE_S3_ENDPOINT")
    assert _remedies(load_settings(tmp_path)) == [f"start it or correct {name}" for name in variables]


def _remedies(settings):
    """What the message says after the colon, of the database, the broker and the S3 server."""
    sessions = session_factory(connect(settings))
    found = []
    with pytest.raises(ServiceError) as away, transaction(sessions) as session:
        session.execute(text("SELECT 1"))
    found.append(str(away.value))
    with pytest.raises(ServiceError) as away:
        Notifier(settings).check()
    found.append(str(away.value))
    with pytest.raises(ServiceError) as away:
        ObjectStore.from_settings(settings).ensure_bucket()
    found.append(str(away.value))
    return [line.rpartition("): ")[2] for line in found]


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("HSAE_DATABASE_URL", "postgresql://hsae:verysecret@localhost/hsae")
    monkeypatch.setenv("HSAE_S3_SECRET_KEY", "verysecret")
    assert "verysecret" not in repr(load_settings())


@pytest.mark.parametrize(
    ("name", "value"), [("HSAE_LEASE_SECONDS", "0"), ("HSAE_S3_BUCKET", "ab"), ("HSAE_DEVICE", "x")]
)
def test_a_value_that_does_not_fit_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name):
        load_settings()
