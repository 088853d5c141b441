"""What a running stack offers and what it keeps to itself."""

import dataclasses
import io
import json
import os
import socket
import stat
import sys

import psutil
import psycopg
import pytest
import redis
import urllib3
from redis.backoff import NoBackoff
from redis.retry import Retry

from hsae.embedded import Stack
from hsae.errors import ServiceError, UserError
from hsae.settings import load_settings


def test_settings_find_the_stack(running, monkeypatch):
    for name in list(os.environ):
        if name.startswith("HSAE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(running.home)  # no .env here
    info = running.info()
    settings = load_settings(running.home)
    assert settings.database_url.get_secret_value() == info.database_url
    assert settings.broker_url.get_secret_value() == info.broker_url
    assert settings.s3_endpoint == info.s3_endpoint
    assert settings.s3_access_key == info.s3_access_key
    assert settings.s3_secret_key.get_secret_value() == info.s3_secret_key
    assert settings.s3_bucket == info.s3_bucket
    assert json.loads((running.home / "stack.json").read_text()) == dataclasses.asdict(info)
    assert info.environment()["HSAE_S3_ENDPOINT"] == info.s3_endpoint


def test_everything_in_the_home_is_private(running):
    assert stat.S_IMODE(running.home.stat().st_mode) == 0o700
    for name in ("stack.json", "servers.json", "servers.lock"):
        assert stat.S_IMODE((running.home / name).stat().st_mode) == 0o600
    for path in running.home.iterdir():
        assert not path.stat().st_mode & 0o077, path
    for path in (running.home / "logs").iterdir():
        assert not path.stat().st_mode & 0o077, path


def test_secrets_show_in_no_command_line_repr_or_log(running):
    info = running.info()
    state = json.loads((running.home / "servers.json").read_text())
    secrets = [value for name, value in state["credentials"].items() if name != "s3_access_key"]
    assert len(set(secrets)) == 4
    seen = [repr(info), *(path.read_text() for path in (running.home / "logs").iterdir())]
    seen += [" ".join(psutil.Process(server.pid).cmdline()) for server in running.status().servers]
    for secret in secrets:
        assert not any(secret in text for text in seen)


def test_every_socket_is_on_loopback(running, processes_of):
    pids = {process.pid for process in processes_of(running.home)}
    assert {server.pid for server in running.status().servers} <= pids
    ports = set(json.loads((running.home / "servers.json").read_text())["ports"].values())
    listening = [
        connection
        for connection in psutil.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
        and (connection.pid in pids or connection.laddr.port in ports)  # not every root sees every pid
    ]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
    assert {connection.laddr.port for connection in listening} <= ports
    assert {server.port for server in running.status().servers} <= {item.laddr.port for item in listening}
    assert not [c for c in psutil.net_connections("inet") if c.pid in pids and c.type == socket.SOCK_DGRAM]
    weed = {server.pid for server in running.status().servers if server.name == "seaweedfs"}
    assert not [c for c in psutil.net_connections("unix") if c.pid in pids - weed and c.laddr]


def test_wrong_credentials_are_refused(running, words):
    info = running.info()
    ports = {server.name: server.port for server in running.status().servers}
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=ports["postgres"], user="hsae", password="x", dbname="hsae")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=ports["valkey"], retry=Retry(NoBackoff(), 0)).ping()
    stranger = dataclasses.replace(info, s3_secret_key="x" * 20)
    with pytest.raises(Exception, match=r"Signature|denied"):
        words.s3(stranger).list_objects(info.s3_bucket).__next__()


def test_seaweedfs_serves_no_data_without_s3_credentials(running, words):
    info = running.info()
    words.s3(info).put_object(info.s3_bucket, "private", io.BytesIO(b"body"), 4)
    ports = json.loads((running.home / "servers.json").read_text())["ports"]
    requests = [
        ("GET", ports["s3"], "/hsae/private"),
        ("DELETE", ports["s3"], "/hsae/private"),
        ("GET", ports["filer"], "/buckets/hsae/private"),
        ("DELETE", ports["filer"], "/buckets/hsae/private"),
        ("GET", ports["master"], "/dir/assign"),
        ("GET", ports["master"], "/col/delete?collection=hsae"),
        ("GET", ports["volume"], "/1,0100000000"),
        ("DELETE", ports["volume"], "/1,0100000000"),
    ]
    for method, port, path in requests:
        answer = urllib3.request(method, f"http://127.0.0.1:{port}{path}", retries=False)
        assert answer.status in (401, 403, 404), (method, path, answer.status)
        assert b"body" not in answer.data
    assert words.s3(info).get_object(info.s3_bucket, "private").read() == b"body"


def test_database_belongs_to_an_ordinary_role_and_is_utf8(running):
    with psycopg.connect(running.info().database_url) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), version(),"
            " current_setting('data_checksums')"
            " FROM pg_database, pg_roles WHERE datname = current_database() AND rolname = current_user"
        ).fetchone()
        assert row[:4] == (False, True, "hsae", "UTF8")
        assert row[4].startswith("PostgreSQL 18")
        assert row[5] == "on"
        assert connection.execute("SELECT upper('straße ä')").fetchone()[0] in ("STRASSE Ä", "STRAßE Ä")
        connection.execute("CREATE TABLE may_create (x int)")
        connection.rollback()


def test_object_store_does_what_the_service_needs(running, words):
    info = running.info()
    client = words.s3(info)
    body = os.urandom(12_000_000)
    client.put_object(info.s3_bucket, "big/a", io.BytesIO(body), len(body), part_size=5 * 1024 * 1024)
    client.put_object(info.s3_bucket, "big/empty", io.BytesIO(b""), 0)
    assert client.get_object(info.s3_bucket, "big/a").read() == body
    assert client.get_object(info.s3_bucket, "big/a", offset=7_000_000, length=9).read() == body[7_000_000:][:9]
    assert client.stat_object(info.s3_bucket, "big/empty").size == 0
    client.remove_object(info.s3_bucket, "big/a")
    assert [entry.object_name for entry in client.list_objects(info.s3_bucket, "big/")] == ["big/empty"]


def test_starting_again_changes_nothing(running):
    before = running.status()
    assert running.start() == running.info()
    assert Stack(running.home).start() == running.info()
    assert running.status() == before


def test_further_process_belongs_to_the_stack(running):
    parent = (
        "import os, subprocess, sys, time; print(os.environ['GREETING'], flush=True);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('child', child.pid, flush=True); time.sleep(600)"
    )
    log = running.log_file("worker")

    def ready() -> bool:
        return "child" in log.read_text()

    pid = running.start_process("worker", [sys.executable, "-c", parent], {"GREETING": "hello"}, ready=ready)
    assert "hello" in log.read_text()
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    child = psutil.Process(int(log.read_text().split("child ")[1].split()[0]))
    assert os.getsid(pid) == pid
    assert [(item.name, item.running, item.pid, item.port) for item in running.status().processes] == [
        ("worker", True, pid, None)
    ]
    assert running.start_process("worker", [sys.executable, "-c", parent]) == pid  # runs already

    # A crash leaves the child; the next start ends it.
    psutil.Process(pid).kill()
    psutil.Process(pid).wait()
    assert not running.status().processes[0].running
    assert child.is_running()
    second = running.start_process("worker", [sys.executable, "-c", parent], {"GREETING": "again"})
    assert second != pid
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE

    running.stop_process("worker")
    assert running.status().processes == ()
    assert not psutil.pid_exists(second) or psutil.Process(second).status() == psutil.STATUS_ZOMBIE
    running.stop_process("worker")  # nothing to stop
    assert running.status().running


def test_process_that_ignores_sigterm_is_killed_with_its_children(running):
    script = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "argv = [sys.executable, '-c', 'import time; time.sleep(600)'];"
        "child = subprocess.Popen(argv, start_new_session=True);"
        "print('child', child.pid, flush=True); time.sleep(600)"
    )
    log = running.log_file("deaf")
    pid = running.start_process("deaf", [sys.executable, "-c", script], ready=lambda: "child" in log.read_text())
    child = int(log.read_text().split()[-1])
    running.stop_process("deaf", grace_seconds=0.2)
    for number in (pid, child):
        assert not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_process_that_does_not_get_ready_is_stopped(running):
    cases = [
        ("echo 'Error: no luck'; exit 1", 60, "stopped right after its start: Error: no luck"),
        ("echo busy; exec sleep 600", 2, "was not ready within 2 s: busy"),
    ]
    for script, seconds, message in cases:
        argv = ["/bin/sh", "-c", script]  # it speaks at once, where Python may take a second to start
        with pytest.raises(ServiceError) as failure:
            running.start_process("luckless", argv, ready=lambda: False, ready_seconds=seconds)
        assert str(failure.value) == f"luckless {message} (log: {running.log_file('luckless')})"
        assert running.status().processes == ()


def test_program_that_does_not_exist_is_one_line(running):
    with pytest.raises(UserError, match="No such file"):
        running.start_process("absent", ["/no/such/program"])
    assert running.status().processes == ()


@pytest.mark.parametrize("name", ["postgres", "../x", "", "Worker"])
def test_unusable_process_names(running, name):
    with pytest.raises(ValueError, match="name"):
        running.start_process(name, [sys.executable])


@pytest.mark.slow
def test_servers_have_a_clean_environment_and_their_own_session(running):
    for server in running.status().servers:
        assert os.getsid(server.pid) == server.pid
        try:
            environment = psutil.Process(server.pid).environ()
        except psutil.AccessDenied:  # root in a container, of another user's process
            continue
        assert not {name for name in environment if name.startswith(("HSAE", "PYTHON", "PG", "VIRTUAL"))}
