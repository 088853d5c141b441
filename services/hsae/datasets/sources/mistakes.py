"""Collects the mistakes of one input, so that a user sees all of them at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from hsae.errors import ServiceError, UserError

_SHOWN = 5


class Mistakes:
    """What is wrong with an input, in the order in which it was found."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._n = 0

    def add(self, text: str) -> None:
        """Keep a mistake; of very many the first are shown, each as one line whatever names stand in it."""
        self._n += 1
        if self._n <= _SHOWN:
            self._shown.append("\\n".join(text.splitlines()))

    def extend(self, later: "Mistakes") -> None:
        """Keep the mistakes of another part of the input, too."""
        self._shown = (self._shown + later._shown)[:_SHOWN]
        self._n += later._n

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the `UserError` of the block, which ends there; a server that is away is no mistake of the input."""
        try:
            yield
        except ServiceError:
            raise
        except UserError as error:
            self.add(str(error))

    def raise_all(self) -> None:
        """Raise what was kept as one line.

        Raises:
            UserError: something was.
        """
        if self._n:
            more = f"; and {self._n - _SHOWN:,} more like these" if self._n > _SHOWN else ""
            raise UserError("; ".join(self._shown) + more)
