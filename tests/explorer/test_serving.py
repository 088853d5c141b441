"""`hsae-admin explore`: a real server on a real port, the role it reads as, and its one-line errors."""

import os
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection

import pytest
from pydantic import SecretStr
from tests.security.reader_login import PASSWORD

from hsae.catalog.server import reader_role
from hsae.catalog.server.reading import connect_reading
from hsae.errors import UserError
from hsae.explorer.serving import Explorer, is_loopback

READY = re.compile(r"Explorer: http://127\.0\.0\.1:(\d+)/")


def explore(service, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from hsae.cli.main import main; main()", "explore", *arguments],
        env={**os.environ, **service.environment, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=service.folder,
    )  # fmt: skip


@pytest.mark.slow
def test_it_serves_until_it_is_stopped(explored, tmp_path):
    running = explore(explored.service, "--port", "0", "--cache", str(tmp_path / "cache"))
    try:
        line = running.stdout.readline()
        found = READY.match(line)
        assert found, line + running.stderr.read()
        server = HTTPConnection("127.0.0.1", int(found[1]), timeout=240)

        def get(path: str, **headers: str) -> tuple[int, bytes, str]:
            server.request("GET", path, headers=headers)
            answer = server.getresponse()
            return answer.status, answer.read(), str(answer.headers).lower()

        status, body, headers = get("/healthz")
        assert (status, body) == (200, b"ok\n")
        assert "uvicorn" not in headers
        assert b"Does structure rise with depth?" in get(f"/study/{explored.wordnet}")[1]
        assert get("/", Host="evil.example")[0] == 400
        server.close()
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=240)
        assert running.returncode in (0, -signal.SIGTERM)
        assert errors == ""
    finally:
        running.kill()
        running.communicate()


def test_a_port_that_is_taken_is_one_line(explored, admin, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = admin(explored.service, "explore", "--port", port, "--cache", tmp_path)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: cannot listen on 127.0.0.1:{port} (Address already in use): choose another --port, or 0 for a free"
        " one\n"
    )


def test_a_host_that_is_none_is_one_line(explored, admin, tmp_path):
    result = admin(explored.service, "explore", "--host", "no.such.host.invalid", "--cache", tmp_path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot listen on no.such.host.invalid:8808 (")
    assert result.output.endswith("choose another --host\n")


@pytest.mark.parametrize("host", ["..x", "a" * 64 + ".example"])
def test_a_host_that_is_no_name_is_one_line(explored, admin, tmp_path, host):
    result = admin(explored.service, "explore", "--host", host, "--cache", tmp_path)
    assert result.exit_code == 1
    assert result.output == (
        f"Error: cannot listen on {host}:8808 (this is no name of a host): choose another --host\n"
    )


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--cache-size", "inf", "inf is no size"),
        ("--cache-size", "nan", "nan is no size"),
        ("--cache-size", "0", "0.0 is not in the range"),
        *(
            ("--allow-host", name, "is no name of a host")
            for name in ("a*", "*", "*a.example", "a.*.example", "proxy:8443", "http://proxy", "", "a b", "..x")
        ),
    ],
)
def test_an_option_that_cannot_be_is_one_line(admin, tmp_path, option, value, reason):
    result = admin(None, "explore", "--cache", tmp_path, option, value)
    assert result.exit_code == 2
    assert f"Error: Invalid value for '{option}': " in result.output
    assert reason in result.output
    assert "Traceback" not in result.output


def test_further_names_are_served(explored, admin, tmp_path, monkeypatch):
    monkeypatch.setattr(Explorer, "run", lambda self: None)
    names = ("proxy", "explorer.example.org", "*.example.org", "10.0.0.1", "[2001:db8::1]")
    options = [part for name in names for part in ("--allow-host", name)]
    result = admin(explored.service, "explore", "--port", 0, "--cache", tmp_path, *options)
    assert result.exit_code == 0, result.output


def test_another_host_than_loopback_is_warned_of(explored, admin, tmp_path, monkeypatch):
    monkeypatch.setattr(Explorer, "run", lambda self: None)
    result = admin(explored.service, "explore", "--host", "0.0.0.0", "--port", 0, "--cache", tmp_path)  # noqa: S104
    assert result.exit_code == 0, result.output
    assert re.search(r"Warning: whoever reaches 0\.0\.0\.0:\d+ sees everything, without a password", result.output)
    result = admin(explored.service, "explore", "--port", 0, "--cache", tmp_path)
    assert "Warning" not in result.output
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.0.0.9", "localhost", "::1"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "::", "example.org"))  # noqa: S104


def test_without_servers_it_says_what_to_do(admin, tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("HSAE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    result = admin(None, "explore", "--home", tmp_path, "--port", 0)
    assert result.exit_code == 1
    assert "no database is set: start a private stack with `hsae-admin up`" in result.output


@pytest.mark.slow
def test_it_reads_as_the_readers_role_where_that_has_a_password(make_service):
    service = make_service(reader_password=SecretStr(PASSWORD))
    reader_role.admit(service.sessions.kw["bind"], service.settings)
    engine = connect_reading(service.settings, statement_seconds=7)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar_one() == reader_role.READER
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on"
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"
    engine.dispose()
    engine = connect_reading(service.settings.model_copy(update={"reader_password": None}), statement_seconds=7)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT current_user").scalar_one() != reader_role.READER
        assert connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on"
    engine.dispose()


def test_a_wrong_password_of_the_readers_role_is_one_line(make_service):
    service = make_service(reader_password=SecretStr(PASSWORD))
    reader_role.admit(service.sessions.kw["bind"], service.settings)
    wrong = service.settings.model_copy(update={"reader_password": SecretStr("wrong")})
    with pytest.raises(UserError, match="hsae_reader cannot log in .*: run `hsae-admin db reader`"):
        connect_reading(wrong, statement_seconds=7)
