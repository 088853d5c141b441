"""A bound on the bytes that several threads hold at once."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    """Lends bytes to threads; a thread that asks for more than is left waits.

    It only counts what callers request; it measures no memory.
    """

    def __init__(self, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._free = n_bytes
        self._waiting: deque[object] = deque()
        self._changed = Condition()

    @contextmanager
    def lent(self, n_bytes: int) -> Iterator[None]:
        """Wait until `n_bytes` are free, and hold them while the block runs.

        Requests are served in order, so that large ones do not wait for ever. A request for more than the whole budget
        is served when nothing else is lent.
        """
        wanted = min(n_bytes, self.n_bytes)
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and wanted <= self._free)
                self._free -= wanted
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()
