"""Work that goes on in a thread beside the forward pass, such as storing a shard while the next one is computed."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)


class OneBehind:
    """Runs one task at a time in a thread of its own; who brings the next one waits until the one before is done.

    So there is never more than one task's data in memory beside what is computed meanwhile. Leaving the block waits for
    the task: nothing goes on afterwards.
    """

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="behind")
        self._task: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.finish()
        elif self._task is not None and (other := self._task.exception()) not in (None, error):
            log.warning("after %s also: %s", error, other)  # the first one ends the work; this one is no surprise

    def begin(self, task: Callable[[], None]) -> None:
        """Begin a task once the one before is done.

        Raises:
            Exception: what the one before raised.
        """
        self.finish()
        self._task = self._pool.submit(task)

    def check(self) -> None:
        """Raise what the task raised, if it has ended so; do not wait."""
        if self._task is not None and self._task.done():
            self._task.result()

    def finish(self) -> None:
        """Wait for the task.

        Raises:
            Exception: what it raised.
        """
        if self._task is not None:
            self._task.result()
