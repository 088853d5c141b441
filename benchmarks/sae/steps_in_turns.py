"""Steps of several trainings in turns, each training in a process of its own, as a job has.

Processes are forks, so that packages are imported and rows are made once. The process that forks must not have run
torch with several threads before: the threads would be missing in the forks.
"""

import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

import torch
from benchmarks.sae.contender import Contender, Setting

from hsae.pipeline.execution.freed_memory import keep_freed_memory

_WARM_UP = 2


class _ClosedError(Exception):
    """The benchmark has seen enough steps."""


def speeds(
    contenders: Sequence[Contender], setting: Setting, n_steps: int, n_threads: int
) -> tuple[dict[str, float], list[str]]:
    """Median vectors a second of each, by its title, after two steps that warm up; and one line for what failed.

    All take turns: what is compared must be in one call.
    """
    found: dict[str, float] = {}
    failed: list[str] = []
    together = [_Process(contender, setting, n_threads) for contender in contenders]
    for process in _in_turns(together, n_steps + _WARM_UP):
        process.step()
    for process in together:
        process.close()
        seconds = process.seconds[_WARM_UP:]
        if process.failure is not None:
            failed.append(f"{process.title}: {process.failure}")
            continue
        print(f"  {process.title}: {', '.join(f'{value:.3f}' for value in seconds)} s", flush=True)
        found[process.title] = setting.batch_size / statistics.median(seconds)
    return found, failed


def _in_turns(processes: Sequence["_Process"], n_turns: int) -> Iterator["_Process"]:
    for _ in range(n_turns):
        yield from (process for process in processes if process.failure is None)


class _Process:
    """A training that waits for the next `step`."""

    def __init__(self, contender: Contender, setting: Setting, n_threads: int) -> None:
        context = multiprocessing.get_context("fork")
        self.title = contender.title
        self.seconds: list[float] = []
        self.failure: str | None = None
        self._connection, theirs = context.Pipe()
        self._process: ForkProcess = context.Process(target=_train, args=(contender, setting, n_threads, theirs))
        self._process.start()
        theirs.close()

    def step(self) -> None:
        """Take one step."""
        self._connection.send(True)
        try:
            answer = self._connection.recv()
        except EOFError:
            answer = "its process ended"
        if isinstance(answer, str):
            self.failure = answer
        else:
            self.seconds.append(answer)

    def close(self) -> None:
        """End the process."""
        if self.failure is None:
            self._connection.send(False)
        self._process.join()


def _train(contender: Contender, setting: Setting, n_threads: int, connection: Connection) -> None:
    keep_freed_memory()  # as in a job
    torch.set_num_threads(n_threads)
    start = 0.0

    def wait() -> None:
        nonlocal start
        if not connection.recv():
            raise _ClosedError
        start = time.perf_counter()

    def after_step() -> None:
        connection.send(time.perf_counter() - start)
        wait()

    try:
        wait()
        contender.run(setting, after_step)
    except _ClosedError:
        pass
    except Exception as error:  # noqa: BLE001 -- whatever another package raises
        connection.send(f"{type(error).__name__}: {error}".splitlines()[0])
