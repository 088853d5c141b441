"""Reads the windows of a training in a thread: one is trained on while the next one is read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hsae.sae.rows.shards import ShardReader
from hsae.sae.rows.windows import WindowOrder

WINDOWS_HELD = 2
"""The window in use and the next one."""


class _NotWantedError(Exception):
    """The window that is being read is not wanted any more."""


@dataclass(slots=True, eq=False)
class _Place:
    """Where a training stands.

    Attributes:
        windows: those of the step whose rows it needs next.
        last_window: the last one that it will need.
    """

    windows: range
    last_window: int


class Reading:
    """One training's view of a `WindowReader`."""

    def __init__(self, reader: "WindowReader", place: _Place) -> None:
        self._reader = reader
        self._place = place

    def ready(self, step: int, seconds: float) -> bool:
        """Whether the rows of a step are in memory; waits for them for some seconds. Earlier steps are let go."""
        return self._reader.wait(self._place, step, seconds)

    def batch(self, step: int) -> Float[Tensor, "batch d_model"]:
        """The rows of a step in their stored type, on the CPU; waits until they are in memory.

        Raises:
            Exception: what the reading of a shard raised.
        """
        while not self.ready(step, 1.0) or (found := self.batch_if_ready(step)) is None:
            pass
        return found

    def batch_if_ready(self, step: int) -> Float[Tensor, "batch d_model"] | None:
        """As `batch`, but None where the rows are not in memory (any more)."""
        return self._reader.take(step)

    def done(self) -> None:
        """The step is made; nobody waits for that."""


class WindowReader:
    """Holds at most two windows; several trainings with the same order may share them.

    The windows held are those that the training furthest behind needs next. One that is ahead of it by more waits.
    """

    def __init__(self, rows: ShardReader, order: WindowOrder, is_trained: Bool[Tensor, "n_listed"]) -> None:
        """Prepare; the thread starts with the first training.

        Args:
            rows: the shards.
            order: which shards make a window, and in which order its rows come.
            is_trained: by image, whether its rows are trained on.
        """
        self._rows = rows
        self._order = order
        self._is_trained = is_trained
        self._places: list[_Place] = []
        self._held: dict[int, Float[Tensor, "n_rows d_model"]] = {}
        self._errors: dict[int, Exception] = {}
        self._failed_early: set[int] = set()
        self._wanted = range(0)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def reading(self, steps: range) -> Iterator[Reading]:
        """Read for some steps of a training; the thread ends with the last training that reads."""
        with self._changed:
            place = _Place(self._windows(steps[0]), self._windows(steps[-1])[-1])
            self._places.append(place)
            self._choose()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="windows", daemon=True)
                self._thread.start()
        try:
            yield Reading(self, place)
        finally:
            ended = None
            with self._changed:
                self._places.remove(place)
                self._choose()
                if not self._places:
                    ended, self._thread = self._thread, None
            if ended is not None:
                ended.join()

    def wait(self, place: _Place, step: int, seconds: float) -> bool:
        """See `Reading.ready`."""
        with self._changed:
            windows = self._windows(step)
            if place.windows != windows:
                place.windows = windows
                self._choose()
            return self._changed.wait_for(lambda: self._has(windows), seconds)

    def take(self, step: int) -> Float[Tensor, "batch d_model"] | None:
        """A copy of the rows of a step, so that a window can be let go while they are in use; None: not in memory."""
        with self._changed:
            pieces = self._order.pieces(step)
            for piece in pieces:
                if piece.window in self._errors:
                    raise self._errors[piece.window]
            if any(piece.window not in self._held for piece in pieces):
                return None
            parts = [self._held[piece.window][piece.start : piece.stop] for piece in pieces]
        return torch.cat(parts)

    def _windows(self, step: int) -> range:
        pieces = self._order.pieces(step)
        return range(pieces[0].window, pieces[-1].window + 1)

    def _has(self, windows: range) -> bool:
        return any(window in self._errors for window in windows) or all(window in self._held for window in windows)

    def _choose(self) -> None:
        """Choose the windows to hold: those of the training furthest behind, up to the last one that any needs."""
        self._wanted = range(0)
        if self._places:
            behind = min(self._places, key=lambda place: (place.windows.start, place.windows.stop)).windows
            last = max(place.last_window for place in self._places)
            # A batch larger than a window needs more than two.
            self._wanted = range(behind.start, max(behind.stop, min(behind.start + WINDOWS_HELD, last + 1)))
        self._held = {window: held for window, held in self._held.items() if window in self._wanted}
        self._errors = {window: error for window, error in self._errors.items() if window in self._wanted}
        # What failed before anybody needed it is tried once more: a server that was away may be back.
        self._failed_early = {
            window for window in self._failed_early if window in self._wanted and not self._is_needed(window)
        }
        self._changed.notify_all()

    def _is_needed(self, window: int) -> bool:
        return any(window in place.windows for place in self._places)

    def _run(self) -> None:
        while (window := self._next()) is not None:
            content, error = None, None
            try:
                content = self._read(window)
            except _NotWantedError:
                continue
            except Exception as failure:  # noqa: BLE001 -- whoever needs the window raises it
                error = failure
            with self._changed:
                if window in self._wanted:
                    if content is not None:
                        self._held[window] = content
                    elif error is not None and self._is_needed(window):
                        self._errors[window] = error
                    else:
                        self._failed_early.add(window)
                self._changed.notify_all()
            del content, error

    def _is_ended(self) -> bool:
        return self._thread is not threading.current_thread()

    def _next(self) -> int | None:
        """The next window to read; None once nobody reads any more."""

        def lacking() -> list[int]:
            done = self._held.keys() | self._errors.keys() | self._failed_early
            return [window for window in self._wanted if window not in done]

        with self._changed:
            self._changed.wait_for(lambda: self._is_ended() or lacking())
            return None if self._is_ended() else lacking()[0]

    def _read(self, window: int) -> Float[Tensor, "n_rows d_model"]:
        with self._changed:
            shards, order = self._order.shards(window), self._order.row_order(window)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        content = torch.empty(len(order), self._rows.d_model, dtype=self._rows.dtype)
        start = 0
        for shard in shards:
            with self._changed:
                if self._is_ended() or window not in self._wanted:
                    raise _NotWantedError
            rows, chosen = self._rows.read(shard, self._is_trained)
            stop = start + len(chosen)
            content[place[start:stop]] = rows.activations[chosen]
            start = stop
        return content
