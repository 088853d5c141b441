"""Start, stop, restart and crashes of a stack, with real servers."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil
import psycopg
import pytest
from tests.interrupts import heed_ctrl_c

from hsae.embedded import Stack
from hsae.embedded.process import wait_for
from hsae.errors import UserError

pytestmark = pytest.mark.slow

START = "import sys, pathlib; from hsae.embedded import Stack; print(Stack(pathlib.Path(sys.argv[1])).start())"


def pids(stack: Stack) -> dict[str, int | None]:
    return {server.name: server.pid for server in stack.status().servers}


def test_life_of_a_stack(home, words, processes_of):
    """Started by a command that returns, used, stopped, started again, crashed, recovered."""
    stack = Stack(home)
    assert not stack.status().running
    stack.stop()  # nothing there: nothing happens, no folder appears
    assert not home.exists()
    with pytest.raises(UserError, match="hsae-admin up"):
        stack.info()

    done = subprocess.run([sys.executable, "-c", START, str(home)], capture_output=True, text=True, check=True)
    assert stack.status().running  # its starter is gone
    info = stack.info()
    assert done.stdout.strip() == repr(info)
    words.write(info, "first")

    assert set(pids(stack).values()) <= {process.pid for process in processes_of(home)}
    stack.start_process("worker", [sys.executable, "-c", "import time; time.sleep(600)"])
    worker = psutil.Process(stack.status().processes[0].pid)
    stack.stop()
    assert processes_of(home) == []
    assert not worker.is_running()
    assert not (home / "stack.json").exists()
    assert not stack.status().running
    assert stack.status().processes == ()
    stack.stop()  # twice is fine

    assert stack.start() == info  # same ports, same credentials
    words.write(info, "second")
    assert words.read(info) == ({"first", "second"},) * 3

    # A server that was killed is started again, the others are left alone.
    for name in pids(stack):
        before = pids(stack)
        os.kill(before[name], signal.SIGKILL)
        assert wait_for(lambda server=name: pids(stack)[server] is None, 240)  # type: ignore[misc]
        with pytest.raises(UserError, match="not running"):
            stack.info()
        assert stack.start() == info
        after = pids(stack)
        assert {other for other in after if after[other] != before[other]} == {name}
        assert words.read(info) == ({"first", "second"},) * 3

    # All at once, as when the machine loses power, with a backend that outlives its Postgres.
    with psycopg.connect(info.database_url, autocommit=True) as connection:
        backend = psutil.Process(connection.info.backend_pid)
        busy = threading.Thread(target=_compute_until_killed, args=(connection,))
        busy.start()
        assert wait_for(lambda: backend.cpu_times().user > 0.1, 240)
        for pid in pids(stack).values():
            os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not any(pids(stack).values()), 240)
        assert backend.is_running()
        assert stack.start() == info
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE
        busy.join()
    assert words.read(info) == ({"first", "second"},) * 3
    stack.stop()
    assert processes_of(home) == []


def _compute_until_killed(connection: psycopg.Connection) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT count(*) FROM generate_series(1, 10000000000) AS g WHERE g % 7 = 8")


def test_two_stacks_started_at_once_do_not_meet(home, words, processes_of):
    stacks = [Stack(home / "a"), Stack(home / "b")]
    with ThreadPoolExecutor() as threads:
        infos = list(threads.map(Stack.start, stacks))
    for info, word in zip(infos, ("a", "b"), strict=True):
        words.write(info, word)
    assert [words.read(info) for info in infos] == [({"a"},) * 3, ({"b"},) * 3]
    stacks[0].stop()
    assert processes_of(home / "a") == []
    assert stacks[1].status().running
    assert words.read(infos[1]) == ({"b"},) * 3
    stacks[1].stop()
    assert processes_of(home) == []


def test_simultaneous_starts_of_one_home_share_one_stack(home, processes_of):
    starts = [
        subprocess.Popen([sys.executable, "-c", START, str(home)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    printed = {start.communicate()[0] for start in starts}
    assert [start.returncode for start in starts] == [0, 0]
    stack = Stack(home)
    assert printed == {f"{stack.info()}\n"}
    found = []
    for process in processes_of(home):
        with suppress(psutil.NoSuchProcess):  # Postgres ends some of its own now and then
            found.append((process.pid, process.name(), process.cmdline()))
    names = [name for _, name, _ in found]
    assert (names.count("weed"), names.count("valkey-server")) == (1, 1)
    assert [pid for pid, _, argv in found if "-D" in argv] == [pids(stack)["postgres"]]
    stack.stop()
    assert processes_of(home) == []


def test_interrupted_start_leaves_nothing(home, processes_of):
    command = [sys.executable, "-c", START, str(home)]
    start = subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=heed_ctrl_c)
    assert wait_for(lambda: bool(processes_of(home)), 240)
    start.send_signal(signal.SIGINT)
    assert start.wait(240) != 0
    assert processes_of(home) == []
    assert not (home / "stack.json").exists()
    assert not Stack(home).status().running


@pytest.mark.parametrize("moment", ["its first process", "initdb's log"])
def test_start_after_a_killed_start(home, processes_of, moment):
    start = subprocess.Popen([sys.executable, "-c", START, str(home)], stderr=subprocess.DEVNULL)
    log = home / "logs" / "postgres.log"
    assert wait_for(lambda: bool(processes_of(home)) if moment == "its first process" else log.exists(), 240)
    start.kill()
    start.wait()
    with Stack(home) as stack:
        assert stack.status().running
    assert processes_of(home) == []
    assert json.loads((home / "servers.json").read_text())["servers"] == {}
