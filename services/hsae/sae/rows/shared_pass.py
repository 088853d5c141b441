"""Several trainings in one process that take their batches from one pass over the rows."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from jaxtyping import Bool, Float
from torch import Tensor

from hsae.sae.rows.shards import ShardReader
from hsae.sae.rows.window_reader import Reading, WindowReader
from hsae.sae.rows.windows import WindowOrder


class SharedPass:
    """Trainings, each in a thread, that read the same windows and make their steps in turn.

    Every training has a `Seat`. None begins before all have begun or given up, so that the windows are read once. Then
    one makes a step at a time: of those whose rows are in memory, the one that is furthest behind. So each has the
    processor's cores, or the GPU, to itself for its step, and a step depends on nothing but its own training's state:
    the bits are those of a training by itself.
    """

    def __init__(self, n_seats: int) -> None:
        """Prepare the pass of `n_seats` trainings."""
        self._n_expected = n_seats
        self._changed = threading.Condition()
        self._waiting: dict[Seat, int] = {}
        self._at_work: Seat | None = None
        self._readers: dict[object, WindowReader] = {}

    @contextmanager
    def seat(self) -> "Iterator[Seat]":
        """A training's seat; one that ends without having begun is not waited for any more."""
        seat = Seat(self)
        try:
            yield seat
        finally:
            self._begin(seat)

    def _begin(self, seat: "Seat") -> None:
        with self._changed:
            if not seat.has_begun:
                seat.has_begun = True
                self._n_expected -= 1
                self._changed.notify_all()

    def _reader(self, rows: ShardReader, order: WindowOrder, is_trained: Bool[Tensor, "n_listed"]) -> WindowReader:
        """The reader of these windows; trainings that read others share only their turns."""
        identity = (order.identity, is_trained.numpy().tobytes())
        with self._changed:
            return self._readers.setdefault(identity, WindowReader(rows, order, is_trained))

    def _start(self, seat: "Seat", step: int, seconds: float) -> bool:
        def may_start() -> bool:
            is_furthest_behind = min(self._waiting.values()) == step
            return self._n_expected == 0 and self._at_work is None and is_furthest_behind

        with self._changed:
            self._waiting[seat] = step
            starts = self._changed.wait_for(may_start, seconds)
            if starts:
                self._at_work = seat
            del self._waiting[seat]
            self._changed.notify_all()
            return starts

    def _end(self, seat: "Seat") -> None:
        with self._changed:
            if self._at_work is seat:
                self._at_work = None
                self._changed.notify_all()


class Seat:
    """One training's part in a pass that several share."""

    def __init__(self, shared: SharedPass) -> None:
        self._shared = shared
        self.has_begun = False

    @contextmanager
    def reading(
        self, rows: ShardReader, order: WindowOrder, is_trained: Bool[Tensor, "n_listed"], steps: range
    ) -> "Iterator[_Turns | Reading]":
        """The batches of some steps. A training that begins again does so by itself, since the others have gone on."""
        with ExitStack() as stack:
            if self.has_begun:
                yield stack.enter_context(WindowReader(rows, order, is_trained).reading(steps))
                return
            reading = stack.enter_context(self._shared._reader(rows, order, is_trained).reading(steps))
            self._shared._begin(self)
            stack.callback(self._shared._end, self)
            yield _Turns(self._shared, self, reading)


class _Turns:
    """The batches of a training that waits for its turn."""

    def __init__(self, shared: SharedPass, seat: Seat, reading: Reading) -> None:
        self._shared = shared
        self._seat = seat
        self._reading = reading
        self._batch: Float[Tensor, "batch d_model"] | None = None

    def ready(self, step: int, seconds: float) -> bool:
        """Whether the batch of a step is in memory, and it is this training's turn; waits for it for some seconds."""
        if not (self._reading.ready(step, seconds) and self._shared._start(self._seat, step, seconds)):
            return False
        # Another training may have gone back meanwhile, so that earlier windows took the place of these.
        self._batch = self._reading.batch_if_ready(step)
        if self._batch is None:
            self.done()
        return self._batch is not None

    def batch(self, step: int) -> Float[Tensor, "batch d_model"]:
        """The rows of a step that is ready."""
        batch, self._batch = self._batch, None
        if batch is None:
            raise RuntimeError(f"the rows of step {step} were taken before they were ready")
        return batch

    def done(self) -> None:
        """The step is made: another training may make one."""
        self._shared._end(self._seat)
