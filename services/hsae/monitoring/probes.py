"""Background probes of what is too slow for a scrape: the object store, and which workers answer."""

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from hsae.catalog.vocabulary import QUEUES
from hsae.errors import HsaeError
from hsae.monitoring.broker_metrics import impatient_app
from hsae.pipeline.queue.notifier import UNREACHABLE, broker_away
from hsae.settings import Settings
from hsae.store.objects import ObjectStore

log = logging.getLogger(__name__)
_PING_SECONDS = 2.0


class Outages:
    """Logs once that a part fails, and once that it answers again."""

    def __init__(self) -> None:
        self._down: set[str] = set()

    def failed(self, part: str, error: HsaeError) -> None:
        """Record a failure."""
        if part not in self._down:
            log.warning("%s: %s", part, error)
        self._down.add(part)

    def worked(self, part: str) -> None:
        """Record an answer."""
        if part in self._down:
            log.info("%s: answers again", part)
        self._down.discard(part)


class Probes:
    """Probes the object store and the workers every `seconds`, each in its own thread.

    Workers answer a Celery broadcast, which always waits for its timeout. A busy worker answers as well, because its
    parent process does. The object store's client retries for several seconds before it fails.
    """

    def __init__(self, settings: Settings, *, seconds: float = 15.0) -> None:
        self._settings = settings
        self._seconds = seconds
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._run, args=("object store", self._look_at_store), name="store-probe", daemon=True
            ),
            threading.Thread(
                target=self._run, args=("workers", self._look_at_workers), name="worker-probe", daemon=True
            ),
        ]
        self.store_up: bool | None = None  # None until the first probe
        self.workers: Counter[str] | None = None  # by queue; None while the broker is unreachable

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop; a running probe ends by itself."""
        self._stop.set()

    def _run(self, part: str, look: Callable[[], None]) -> None:
        outages = Outages()
        while not self._stop.is_set():
            try:
                look()
            except HsaeError as error:
                outages.failed(part, error)
            else:
                outages.worked(part)
            self._stop.wait(self._seconds)

    def _look_at_store(self) -> None:
        try:
            ObjectStore.from_settings(self._settings).exists("probe")
        except HsaeError:
            self.store_up = False
            raise
        self.store_up = True

    def _look_at_workers(self) -> None:
        try:
            # A new client each time: an old one would not notice that it lost its connection.
            app = impatient_app(self._settings)
            replies: dict[str, list[dict[str, Any]]] = app.control.inspect(timeout=_PING_SECONDS).active_queues() or {}
        except UNREACHABLE as error:
            self.workers = None
            raise broker_away(error, self._settings) from error
        counted = Counter(queue["name"] for queues in replies.values() for queue in queues)
        self.workers = Counter({queue: counted[queue] for queue in {*QUEUES, *counted}})
