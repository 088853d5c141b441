"""Where settings come from, and what a wrong one says."""

import json

import pytest

from hsae.errors import UserError
from hsae.settings import load_settings


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
