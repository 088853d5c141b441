"""What a stack meets that was left by others: foreign pids, taken ports, damaged data, another kind of root."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import psutil
import pytest

import hsae.embedded.ports
from hsae.embedded import Stack
from hsae.embedded.process import wait_for
from hsae.errors import ServiceError

pytestmark = pytest.mark.slow

SERVERS = ("postgres", "valkey", "seaweedfs")


@pytest.fixture(scope="module")
def stopped(module_home, words) -> Stack:
    """A stopped stack that holds the word "kept"; every test leaves it so."""
    stack = Stack(module_home)
    with stack:
        words.write(stack.info(), "kept")
    return stack


def edit_state(stack: Stack, **changes: object) -> None:
    path = stack.home / "servers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def ports(stack: Stack) -> dict[str, int]:
    return json.loads((stack.home / "servers.json").read_text())["ports"]


def test_recycled_pids_are_neither_trusted_nor_killed(stopped, words):
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        record = {"pid": stranger.pid, "started": "some boot/123", "token": "none"}
        edit_state(stopped, servers=dict.fromkeys(SERVERS, record), processes={"worker": record})
        assert not stopped.status().running
        stopped.stop()
        assert stranger.poll() is None
        edit_state(stopped, servers=dict.fromkeys(SERVERS, record), processes={"worker": record})
        (stopped.home / "postgres" / "postmaster.pid").write_text(
            f"{stranger.pid}\n{stopped.home}/postgres\n1700000000\n5432\n\n127.0.0.1\n     1     1\nready   \n"
        )
        with stopped:
            assert words.read(stopped.info()) == ({"kept"},) * 3
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_servers_that_no_record_knows_are_ended(stopped, words, processes_of):
    """As after a starter that was killed between starting a server and writing it down."""
    stopped.start()
    before = {psutil.Process(server.pid) for server in stopped.status().servers}
    edit_state(stopped, servers={})
    assert not stopped.status().running
    info = stopped.start()
    assert not before & set(processes_of(stopped.home))
    assert words.read(info) == ({"kept"},) * 3
    edit_state(stopped, servers={})
    stopped.stop()
    assert processes_of(stopped.home) == []


def test_ports_that_others_took_are_chosen_anew(stopped, words):
    old = ports(stopped)
    takers = [socket.socket() for _ in range(4)]
    addresses = [("postgres", "127.0.0.1"), ("valkey", ""), ("s3", "127.0.0.1"), ("filer_grpc", "127.0.0.1")]
    for taker, (name, address) in zip(takers, addresses, strict=True):
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind((address, old[name]))
        taker.listen()
    try:
        with stopped:
            new = ports(stopped)
            assert {name for name in old if old[name] != new[name]} == {
                "postgres", "valkey", "s3", "s3_grpc", "filer", "filer_grpc",
            }  # fmt: skip
            assert words.read(stopped.info()) == ({"kept"},) * 3
    finally:
        for taker in takers:
            taker.close()


def crash(stack: Stack, name: str) -> None:
    pid = next(server.pid for server in stack.status().servers if server.name == name)
    server = psutil.Process(pid)
    server.kill()
    server.wait(timeout=240)


def test_a_process_that_was_told_an_old_port_is_stopped(stopped):
    """After a crash of a server: a worker that goes on would look for it at the port that another program has now."""
    idle = [sys.executable, "-c", "import time; time.sleep(600)"]
    with stopped:
        pid = stopped.start_process("worker", idle)
        crash(stopped, "valkey")
        stopped.start()
        assert stopped.start_process("worker", idle) == pid  # the server came back where it was
        crash(stopped, "valkey")
        with socket.create_server(("127.0.0.1", ports(stopped)["valkey"])):
            stopped.start()
        assert stopped.status().processes == ()
        assert stopped.start_process("worker", idle) != pid


def test_port_that_is_taken_in_the_last_moment(stopped, words, monkeypatch):
    """Between the look at a port and the server's own attempt, which no test can time: the look is made wrong."""
    old = ports(stopped)
    is_free, wrong = hsae.embedded.ports.is_free, {old["valkey"], old["volume"]}

    def look(port: int) -> bool:
        if port in wrong:
            wrong.discard(port)
            return True
        return is_free(port)

    monkeypatch.setattr(hsae.embedded.ports, "is_free", look)
    with socket.socket() as one, socket.socket() as other:
        for taker, name in ((one, "valkey"), (other, "volume")):
            taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taker.bind(("127.0.0.1", old[name]))
            taker.listen()
        with stopped:
            new = ports(stopped)
            assert {name for name in old if old[name] != new[name]} == {"valkey", "volume", "volume_grpc"}
            assert words.read(stopped.info()) == ({"kept"},) * 3


def test_server_that_does_not_come_up_is_named_and_nothing_stays(stopped, processes_of):
    stopped.start()
    manifest = next((stopped.home / "valkey" / "appendonlydir").glob("*.manifest"))
    kept = manifest.read_bytes()
    before = stopped.status().servers
    os.kill(before[1].pid, signal.SIGKILL)
    assert wait_for(lambda: not stopped.status().running, 240)
    manifest.write_bytes(b"not a manifest\n")
    try:
        # What ran before a failing start goes on.
        with pytest.raises(ServiceError, match="Valkey"):
            stopped.start()
        after = stopped.status().servers
        assert (after[0], after[1].running, after[2]) == (before[0], False, before[2])
        assert not (stopped.home / "stack.json").exists()
        stopped.stop()
        # What the failing start started does not.
        with pytest.raises(ServiceError) as failure:
            stopped.start()
        reason = r"Valkey stopped right after its start: .* Invalid AOF manifest file format"
        failure.match(rf"^{reason} \(log: {stopped.log_file('valkey')}\)$")
        assert processes_of(stopped.home) == []
        assert not (stopped.home / "stack.json").exists()
    finally:
        manifest.write_bytes(kept)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_root_where_user_namespaces_are_blocked(stopped, words, monkeypatch, tmp_path):
    """With namespaces before, without them now, with them again: the data changes its owner and stays."""
    blocked = tmp_path / "unshare"
    blocked.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    blocked.chmod(0o755)
    version = stopped.home / "postgres" / "PG_VERSION"
    if version.stat().st_uid != 0:
        pytest.skip("user namespaces are blocked here for good: every other test runs without them")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with stopped:
        postgres = psutil.Process(stopped.status().servers[0].pid)
        assert postgres.uids().effective == version.stat().st_uid == 65534
        assert stopped.home.stat().st_uid == 0
        assert words.read(stopped.info()) == ({"kept"},) * 3
    monkeypatch.undo()
    with stopped:
        assert version.stat().st_uid == 0
        assert words.read(stopped.info()) == ({"kept"},) * 3
