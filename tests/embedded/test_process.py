"""Recognising, stopping and describing processes."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hsae.embedded import process

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def sleeper(tmp_path):
    record = process.spawn(SLEEP, log=tmp_path / "log", env=os.environ)
    yield record
    process.stop(record, [])


def test_only_the_very_process_is_alive(sleeper):
    assert process.is_alive(sleeper)
    assert not process.is_alive(None)
    assert not process.is_alive(sleeper.model_copy(update={"started": "earlier"}))
    assert not process.is_alive(sleeper.model_copy(update={"pid": os.getpid()}))
    again = type(sleeper).model_validate_json(sleeper.model_dump_json())
    assert process.is_alive(again)
    process.stop(again, [(signal.SIGTERM, 10)])
    assert not process.is_alive(again)
    assert not psutil.pid_exists(sleeper.pid)  # no zombie of ours either


def test_recycled_pid_is_not_signalled(sleeper):
    process.stop(sleeper.model_copy(update={"started": "earlier"}), [(signal.SIGTERM, 0)])
    time.sleep(0.05)
    assert process.is_alive(sleeper)


def test_dead_leader_with_living_threads_is_alive(tmp_path):
    """A killed server holds its ports until the last of its threads is gone."""
    script = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start();"
        "print('up', flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    log = tmp_path / "log"
    record = process.spawn([sys.executable, "-c", script], log=log, env=os.environ)
    assert process.wait_for(lambda: psutil.Process(record.pid).status() == psutil.STATUS_ZOMBIE, 240)
    assert process.is_alive(record)
    process.stop(record, [])
    assert not process.is_alive(record)


def test_folder_of_a_process_is_told_by_inode(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    child = subprocess.Popen(SLEEP, cwd=tmp_path / "a")
    try:
        assert process.works_in(child.pid, tmp_path / "a") is True
        assert process.works_in(child.pid, tmp_path / "b") is False
        assert process.works_in(child.pid, tmp_path / "c") is False
        (tmp_path / "link").symlink_to("a")
        assert process.works_in(child.pid, tmp_path / "link") is True
        process.end_strays(tmp_path / "a", "another-name", "another-mark")
        process.end_strays(tmp_path / "b", "another-name", SLEEP[-1])
        assert child.poll() is None
        process.end_strays(tmp_path / "a", "another-name", SLEEP[-1])  # before it takes its name
        assert child.wait(240) != 0
    finally:
        child.kill()
        child.wait()
    assert process.works_in(child.pid, tmp_path / "a") is False


def test_telling_line(tmp_path):
    log = tmp_path / "log"
    assert process.telling_line(log, since=0) == "no output"
    log.write_text("LOG: old\nFATAL: old\n")
    since = process.log_size(log)
    with process.open_log(log) as file:
        file.write("LOG: new\n\nFATAL: cause ü\nPANIC: consequence\nbye\n\n".encode())
    assert process.telling_line(log, since=since) == "bye"
    trouble = re.compile("FATAL|PANIC")
    assert process.telling_line(log, since=since, trouble=trouble) == "FATAL: cause ü"
    assert process.telling_line(log, since=since, trouble=re.compile("ERROR")) == "bye"
    log.write_text("short\n")  # somebody emptied it meanwhile
    assert process.telling_line(log, since=since, trouble=trouble) == "short"


def test_large_log_is_put_aside_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_ROTATE_BYTES", 10)
    log = tmp_path / "server.log"
    log.write_text("x" * 11)
    record = process.spawn(["true"], log=log, env={"PATH": os.defpath})
    assert process.wait_for(lambda: not process.is_alive(record), 240)
    assert (tmp_path / "server.log.1").read_text() == "x" * 11
    assert log.read_text() == ""
