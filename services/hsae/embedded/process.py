"""Processes that outlive their starter: started in a new session, recognised later, stopped reliably.

A pid alone is not enough, because the kernel reuses it after the process has ended. Therefore a record also has the
start time of the process, and a process with another start time is never signalled.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import psutil
from pydantic import BaseModel, ConfigDict

from hsae.errors import ServiceError, UserError

TOKEN_VARIABLE = "HSAE_STACK_TOKEN"  # noqa: S105  (a variable's name)
_POLL_SECONDS = 0.02
_KILL_SECONDS = 10.0
_ROTATE_BYTES = 20_000_000

# Children of this process stay zombies until they are waited for, hence the handles.
_children: dict[int, subprocess.Popen[bytes]] = {}


class ProcessRecord(BaseModel):
    """Identifies a process later: its pid and its start time (opaque; only compared for equality)."""

    model_config = ConfigDict(frozen=True)

    pid: int
    started: str
    token: str = ""


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    umask: int = -1,
    token: str = "",
) -> ProcessRecord:
    """Start a process in a new session.

    Args:
        argv: program and arguments.
        log: file to which the output is appended.
        env: the whole environment.
        cwd: working directory.
        umask: umask; -1: unchanged.
        token: added to the environment, so that `kill_family` finds descendants after their parent has died.

    Raises:
        OSError: the program cannot be executed.
    """
    if log_size(log) > _ROTATE_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with open_log(log) as output:
        process = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**env, TOKEN_VARIABLE: token} if token else dict(env),
            umask=umask,
            start_new_session=True,
        )
    _children[process.pid] = process
    return ProcessRecord(pid=process.pid, started=_started(process.pid)[0], token=token)


def is_alive(record: ProcessRecord | None) -> bool:
    """Whether the process of the record runs; a zombie does not."""
    if record is None:
        return False
    child = _children.get(record.pid)
    if child is not None and child.poll() is not None:
        _children.pop(record.pid, None)
    started, runs = _started(record.pid)
    return runs and started == record.started


def stop(record: ProcessRecord, signals: Iterable[tuple[signal.Signals, float]]) -> None:
    """Send each (signal, seconds to wait) until the process has ended; finally send SIGKILL to its process group.

    Raises:
        ServiceError: the process does not end even then.
        UserError: the process belongs to another user.
    """
    try:
        for number, seconds in signals:
            if not is_alive(record):
                return
            os.kill(record.pid, number)
            if wait_for(lambda: not is_alive(record), seconds):
                return
        if is_alive(record):  # while the leader lives, the group is still ours
            os.killpg(record.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise UserError(
            f"process {record.pid} of the private stack belongs to another user: stop it as that one"
        ) from error
    if not wait_for(lambda: not is_alive(record), _KILL_SECONDS):
        raise ServiceError(f"process {record.pid} of the private stack does not end; the system may be stuck")


def kill_family(record: ProcessRecord) -> None:
    """Kill every process with the record's token: descendants that a stopped or crashed process left behind."""
    if record.token:
        _kill([process for process in psutil.process_iter() if _token(process) == record.token])


def end_strays(folder: Path, executable: str, mark: str | None = None) -> None:
    """End processes of `folder` that have no record: named `executable`, or with `mark` in their command line.

    Examples are the backends of a killed Postgres, which would prevent the next start, and servers whose starter was
    killed before it recorded them. `mark` also finds a program that changes its identity before it becomes
    `executable`.
    """
    strays = [
        process
        for process in psutil.process_iter()
        if (_name(process) == executable or _carries(process, mark)) and belongs_to(process, folder, mark)
    ]
    for process in strays:
        _signal(process, signal.SIGQUIT if executable == "postgres" else signal.SIGTERM)
    wait_for(lambda: not any(map(_runs, strays)), _KILL_SECONDS)
    _kill([process for process in strays if _runs(process)])


def belongs_to(process: psutil.Process, folder: Path, mark: str | None = None) -> bool:
    """Whether the process works in `folder`; if that cannot be read, whether its command line has `mark`.

    Root in a container may not inspect the processes of other users.
    """
    inside = works_in(process.pid, folder)
    return _carries(process, mark) if inside is None else inside


def _carries(process: psutil.Process, mark: str | None) -> bool:
    """Whether the command line of the process has `mark` in it."""
    try:
        return mark is not None and any(mark in part for part in process.cmdline())
    except psutil.Error:
        return False


def works_in(pid: int, folder: Path) -> bool | None:
    """Whether `folder` is the working directory of the process; None if that cannot be read."""
    try:
        if sys.platform == "linux":
            # By inode: a process of a container may work in another folder of the same path.
            return os.path.samestat(Path(f"/proc/{pid}/cwd").stat(), folder.stat())
        return Path(psutil.Process(pid).cwd()).samefile(folder)
    except (PermissionError, psutil.AccessDenied):
        return None
    except (OSError, psutil.NoSuchProcess):
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll until the condition holds; False if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def open_log(log: Path) -> BinaryIO:
    """Open the log file for appending; only this user can read it, because servers may log statements."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def log_size(log: Path) -> int:
    """Size of the log in bytes."""
    return log.stat().st_size if log.exists() else 0


def telling_line(log: Path, *, since: int, trouble: re.Pattern[str] | None = None) -> str:
    """The first line of the log after byte `since` that matches `trouble`; without a match, the last line."""
    if not log.exists():
        return "no output"
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(since if since <= size else 0, size - 65_536))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if trouble is not None and trouble.search(line)]
    return causes[0] if causes else (lines or ["no output"])[-1]


def _started(pid: int) -> tuple[str, bool]:
    """Start time of the process (empty without a process), and whether it runs (is no zombie)."""
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return f"{process.create_time():.2f}", process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return "", False
    # Ticks since boot. psutil's create_time adds the boot time, which changes whenever the clock is set (laptops and
    # virtual machines after sleep): a server would no longer be recognised.
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "", False
    # A zombie has ended, and stays a zombie if process 1 of a container does not wait for it. But while it has other
    # threads, these still hold its ports and files.
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return f"{boot}/{fields[19].decode()}", not ended


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and _started(process.pid)[1]
    except psutil.NoSuchProcess:
        return False


def _token(process: psutil.Process) -> str:
    try:
        return process.environ().get(TOKEN_VARIABLE, "")
    except (psutil.Error, OSError):  # another user's process, or ended meanwhile
        return ""


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)  # psutil checks that the pid was not reused
    except psutil.NoSuchProcess:
        return
    except psutil.AccessDenied as error:
        raise UserError(
            f"process {process.pid} of the private stack belongs to another user: stop it as that one"
        ) from error


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        _signal(process, signal.SIGKILL)
    wait_for(lambda: not any(map(_runs, processes)), _KILL_SECONDS)
